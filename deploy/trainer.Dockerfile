# The trainer: Paddle, the baselines and the exporter, at the versions that the tests ran with.
#   docker build -f deploy/trainer.Dockerfile -t crossrank-trainer .
#   docker run -v "$PWD/runs:/runs" crossrank-trainer train /runs/shop.toml
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/crossrank
COPY requirements-trainer.lock /src/
RUN /opt/crossrank/bin/pip install --require-hashes --requirement /src/requirements-trainer.lock
COPY pyproject.toml README.md LICENSE /src/
COPY rerank_server /src/rerank_server
COPY trainer /src/trainer
RUN /opt/crossrank/bin/pip install --no-deps /src

FROM python:${PYTHON}-slim
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
ENTRYPOINT ["python", "-m", "trainer"]
