# The reranking server: onnxruntime and gRPC, no Paddle, no compiler, no shell user.
#   docker build -f deploy/server.Dockerfile -t crossrank-server .
#   docker run --read-only -p 50051:50051 -v "$PWD/bundle:/bundle:ro" -v "$PWD/products:/products:ro" crossrank-server
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/crossrank
# The locked packages come first: they change less often than the code.
COPY requirements-server.lock /src/
RUN /opt/crossrank/bin/pip install --require-hashes --requirement /src/requirements-server.lock
# Only the server is copied, so only the server is in the wheel and in the image.
COPY pyproject.toml README.md LICENSE /src/
COPY rerank_server /src/rerank_server
RUN /opt/crossrank/bin/pip install --no-deps /src && \
    /opt/crossrank/bin/pip check && \
    /opt/crossrank/bin/python -m compileall -q /opt/crossrank/lib && \
    /opt/crossrank/bin/pip uninstall --yes --quiet pip

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="crossrank-server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/crossrank /opt/crossrank
# Nothing is written outside /tmp; the root file system may be read-only.
ENV PATH=/opt/crossrank/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RERANK_HOST=0.0.0.0 \
    RERANK_PORT=50051 \
    RERANK_BUNDLE=/bundle \
    RERANK_PRODUCTS=/products
USER 10001:10001
WORKDIR /tmp
EXPOSE 50051
STOPSIGNAL SIGTERM
# Healthy once the standard gRPC health service answers SERVING (1).
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-c", "\
import sys, grpc; \
from grpc_health.v1 import health_pb2, health_pb2_grpc; \
health = health_pb2_grpc.HealthStub(grpc.insecure_channel('localhost:50051')); \
sys.exit(health.Check(health_pb2.HealthCheckRequest(), timeout=3).status != 1)"]
# The server refuses to listen beyond the container without TLS (RERANK_TLS_CERTIFICATE and
# RERANK_TLS_KEY) unless RERANK_INSECURE_LISTEN=true says that something else protects it.
ENTRYPOINT ["crossrank"]
CMD ["serve"]
