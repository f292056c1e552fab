# The reranking server on CPUs: onnxruntime, gRPC, the HTTP door and OpenTelemetry; no Paddle, no
# compiler. Built from the root of the repository:
#   docker build -f deploy/server.Dockerfile -t crossrank-server .
# It listens beyond its container, so it wants TLS, or to be told that something else protects it:
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 127.0.0.1:50061:50061 \
#     -e RERANK_INSECURE_LISTEN=true \
#     -v "$PWD/bundle:/bundle:ro" -v "$PWD/products:/products:ro" crossrank-server
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 50061:50061 \
#     -e RERANK_TLS_CERTIFICATE=/tls/tls.crt -e RERANK_TLS_KEY=/tls/tls.key \
#     -v "$PWD/tls:/tls:ro" \
#     -v "$PWD/bundle:/bundle:ro" -v "$PWD/products:/products:ro" crossrank-server
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/crossrank
# The locked packages come first: they change less often than the code.
COPY requirements-serving.lock /src/
RUN /opt/crossrank/bin/pip install --require-hashes --requirement /src/requirements-serving.lock
# Only the server is copied, so only the server is in the wheel and in the image.
COPY pyproject.toml README.md LICENSE /src/
COPY rerank_server /src/rerank_server
RUN /opt/crossrank/bin/pip install --no-deps /src && \
    /opt/crossrank/bin/pip check && \
    /opt/crossrank/bin/python -m compileall -q /opt/crossrank/lib && \
    /opt/crossrank/bin/pip uninstall --yes --quiet pip setuptools

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="crossrank-server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/crossrank /opt/crossrank
# Nothing is written outside /tmp; the root file system may be read-only.
ENV PATH=/opt/crossrank/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RERANK_HOST=0.0.0.0 \
    RERANK_PORT=50061 \
    RERANK_METRICS_PORT=9090 \
    RERANK_BUNDLE=/bundle \
    RERANK_PRODUCTS=/products
USER 10001:10001
WORKDIR /tmp
EXPOSE 50061 9090
STOPSIGNAL SIGTERM
# Readiness comes from the port of metrics and probes. It listens on the container's loopback and
# speaks HTTP whatever the gRPC port speaks: clear text, TLS, or TLS with clients' certificates.
HEALTHCHECK --interval=10s --timeout=4s --start-period=120s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
probes = http.client.HTTPConnection('127.0.0.1', int(os.environ['RERANK_METRICS_PORT']), timeout=3); \
probes.request('GET', '/readyz'); \
sys.exit(probes.getresponse().status != 200)"]
ENTRYPOINT ["crossrank"]
CMD ["serve"]
