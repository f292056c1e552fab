# The gateway before Elasticsearch, from the same locked packages as the server.
#   docker build -f deploy/gateway.Dockerfile -t crossrank-gateway .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL -p 127.0.0.1:9280:9280 \
#     -e RERANK_GATEWAY_INSECURE_LISTEN=true \
#     -e RERANK_GATEWAY_ELASTICSEARCH=http://elasticsearch:9200 \
#     -e RERANK_GATEWAY_RERANKER=server:50061 crossrank-gateway
# With TLS instead: RERANK_GATEWAY_TLS_CERTIFICATE and RERANK_GATEWAY_TLS_KEY.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/crossrank
COPY requirements-serving.lock /src/
RUN /opt/crossrank/bin/pip install --require-hashes --requirement /src/requirements-serving.lock
COPY pyproject.toml README.md LICENSE /src/
COPY rerank_server /src/rerank_server
RUN /opt/crossrank/bin/pip install --no-deps /src && \
    /opt/crossrank/bin/pip check && \
    /opt/crossrank/bin/python -m compileall -q /opt/crossrank/lib && \
    /opt/crossrank/bin/pip uninstall --yes --quiet pip setuptools

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="crossrank-gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/crossrank /opt/crossrank
# Written are /tmp and, with telemetry, the spool: mount a volume there to keep it.
RUN mkdir /spool && chown 10001:10001 /spool
ENV PATH=/opt/crossrank/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RERANK_GATEWAY_HOST=0.0.0.0 \
    RERANK_GATEWAY_PORT=9280 \
    RERANK_GATEWAY_METRICS_PORT=9091
USER 10001:10001
WORKDIR /tmp
VOLUME /spool
EXPOSE 9280 9091
STOPSIGNAL SIGTERM
# The port of probes speaks HTTP whatever the gateway's own port speaks.
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s --retries=3 CMD ["python", "-c", "\
import http.client, os, sys; \
port = int(os.environ['RERANK_GATEWAY_METRICS_PORT']); \
probes = http.client.HTTPConnection('127.0.0.1', port, timeout=3); \
probes.request('GET', '/readyz'); \
sys.exit(probes.getresponse().status != 200)"]
ENTRYPOINT ["crossrank"]
CMD ["gateway"]
