# The reranking server on an NVIDIA GPU: as server.Dockerfile, with onnxruntime's CUDA provider.
#   docker build -f deploy/server-gpu.Dockerfile -t crossrank-server-gpu .
#   docker run --gpus 1 --read-only --tmpfs /tmp --cap-drop ALL -p 127.0.0.1:50061:50061 \
#     -e RERANK_INSECURE_LISTEN=true \
#     -v "$PWD/bundle:/bundle:ro" -v "$PWD/products:/products:ro" crossrank-server-gpu
# The locked onnxruntime-gpu is built for CUDA 13 and cuDNN 9; the host needs a driver for CUDA 13.
# Ubuntu 24.04 brings Python 3.12. Both stages have it at the same path, which a venv needs.
ARG CUDA=13.1.1-cudnn-runtime-ubuntu24.04

FROM nvidia/cuda:${CUDA} AS python
# hadolint ignore=DL3008
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 && \
    rm -rf /var/lib/apt/lists/*

FROM python AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# hadolint ignore=DL3008
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv && \
    rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/crossrank
COPY requirements-serving-gpu.lock /src/
RUN /opt/crossrank/bin/pip install --require-hashes --requirement /src/requirements-serving-gpu.lock
COPY pyproject.toml README.md LICENSE /src/
COPY rerank_server /src/rerank_server
# No `pip check`: the project asks for onnxruntime, whose place onnxruntime-gpu takes.
RUN /opt/crossrank/bin/pip install --no-deps /src && \
    /opt/crossrank/bin/python -m compileall -q /opt/crossrank/lib && \
    /opt/crossrank/bin/pip uninstall --yes --quiet pip

FROM python
LABEL org.opencontainers.image.title="crossrank-server-gpu" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/crossrank /opt/crossrank
# Without a GPU it does not start, where `auto` would fall back to the CPU.
ENV PATH=/opt/crossrank/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RERANK_DEVICE=cuda \
    RERANK_HOST=0.0.0.0 \
    RERANK_PORT=50061 \
    RERANK_METRICS_PORT=9090 \
    RERANK_BUNDLE=/bundle \
    RERANK_PRODUCTS=/products
USER 10001:10001
WORKDIR /tmp
EXPOSE 50061 9090
STOPSIGNAL SIGTERM
# As in server.Dockerfile; a GPU needs longer to warm up.
HEALTHCHECK --interval=10s --timeout=4s --start-period=300s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
probes = http.client.HTTPConnection('127.0.0.1', int(os.environ['RERANK_METRICS_PORT']), timeout=3); \
probes.request('GET', '/readyz'); \
sys.exit(probes.getresponse().status != 200)"]
ENTRYPOINT ["crossrank"]
CMD ["serve"]
