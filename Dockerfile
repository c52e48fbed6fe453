# One file, three images: `docker build --target producer .`, or consumers, or sandbox. They share all layers but the
# last. Written for BuildKit and for the builder before it alike, so there is no `RUN --mount` and no here-document.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# 1. The dependencies, exactly those of the lock file, each checked against its hash.
FROM ${PYTHON_IMAGE} AS dependencies
COPY requirements-runtime.lock /build/
RUN python3 -m venv --without-pip /opt/venv \
    && python3 -m pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --no-deps --only-binary :all: \
        --require-hashes --requirement /build/requirements-runtime.lock \
    && find /opt/venv -type d -name tests -prune -exec rm -rf {} + \
    && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv

# 2. What each image gets of the project: its own packages and no others.
FROM dependencies AS project
WORKDIR /build
COPY pyproject.toml LICENSE ./
COPY .docker ./.docker
COPY schemas ./schemas
COPY trekkpaalegg ./trekkpaalegg
COPY producer ./producer
COPY consumers ./consumers
COPY sandbox ./sandbox
RUN for image in "producer producer schemas trekkpaalegg" "consumer consumers schemas trekkpaalegg" "sandbox sandbox schemas trekkpaalegg"; do \
        set -- ${image} && program=$1 && folder=/images/$2 && shift \
        && mkdir -p ${folder} && cp -r "$@" LICENSE .docker/ask_health.py ${folder}/ \
        && /opt/venv/bin/python .docker/write_metadata.py ${folder} trekkpaalegg-${program} \
        && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash ${folder} || exit 1; \
    done \
    && cp .docker/ledger_has_events.py /images/consumers/

# 3. What all three stand on: Python without an installer, the dependencies, and a user who owns nothing.
FROM ${PYTHON_IMAGE} AS runtime
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip /usr/lib/python3/dist-packages/pip* \
        /usr/lib/python3/dist-packages/setuptools* /usr/lib/python3/dist-packages/wheel* /usr/bin/pip* /usr/local/bin/pip* \
        /usr/share/python-wheels /usr/lib/python3*/ensurepip \
    && groupadd --gid 10001 trekkpaalegg \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin trekkpaalegg \
    && install -d -o trekkpaalegg -g trekkpaalegg -m 0750 /var/lib/trekkpaalegg
COPY --from=dependencies /opt/venv /opt/venv
# Bytecode is there already, and the file system is to be mounted read-only. Should a library written in C crash, the
# log tells what each thread was doing.
ENV PATH=/app/bin:/opt/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
STOPSIGNAL SIGTERM
USER 10001:10001
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="The trekkpålegg stream"

FROM runtime AS sandbox
LABEL org.opencontainers.image.title="trekkpaalegg-sandbox" \
      org.opencontainers.image.description="Skatteetaten and Maskinporten, simulated; for trying and testing alone."
COPY --from=project /images/sandbox /app
ENTRYPOINT ["trekkpaalegg-sandbox"]
CMD ["api", "--host", "0.0.0.0", "--api-port", "8081", "--maskinporten-port", "8082", "--control-port", "8083"]
EXPOSE 8081 8082 8083
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["/opt/venv/bin/python", "-I", "-S", "/app/ask_health.py", "8083/control", "8082/.well-known/oauth-authorization-server"]

FROM runtime AS consumers
LABEL org.opencontainers.image.title="trekkpaalegg-consumer" \
      org.opencontainers.image.description="Applies trekkpålegg events to a payroll ledger, each exactly once."
COPY --from=project /images/consumers /app
ENTRYPOINT ["trekkpaalegg-consumer"]
CMD ["run"]

FROM runtime AS producer
LABEL org.opencontainers.image.title="trekkpaalegg-producer" \
      org.opencontainers.image.description="Publishes every version of every trekkpålegg to Kafka, exactly once and with no gap."
COPY --from=project /images/producer /app
ENTRYPOINT ["trekkpaalegg-producer"]
CMD ["run"]
EXPOSE 8080
# Healthy means ready; what is missing stands in `docker inspect`. The port is the one that the image is started with.
HEALTHCHECK --interval=5s --timeout=5s --start-period=120s --retries=3 \
    CMD ["/bin/sh", "-c", "exec /opt/venv/bin/python -I -S /app/ask_health.py ${TREKKPAALEGG_HTTP_PORT:-8080}/readyz"]
