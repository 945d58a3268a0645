# The server, the worker and every other command of Upshot. Nothing that builds is in the final stage.
FROM python:3.13-slim AS build
WORKDIR /build
RUN python -m venv /opt/build && python -m venv --without-pip /opt/upshot
COPY requirements/build.txt requirements/container.txt requirements/
RUN /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements/build.txt && \
    /opt/build/bin/pip --python /opt/upshot/bin/python install --no-cache-dir --require-hashes -r requirements/container.txt && \
    rm -rf /opt/upshot/lib/python3.13/site-packages/scipy/*/tests \
           /opt/upshot/lib/python3.13/site-packages/scipy/*/*/tests
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir dist . && \
    /opt/build/bin/pip --python /opt/upshot/bin/python install --no-cache-dir --no-deps dist/*.whl

FROM python:3.13-slim
RUN groupadd --gid 10001 upshot && \
    useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin upshot && \
    install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /opt/upshot /opt/upshot
ENV PATH=/opt/upshot/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    UPSHOT_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", \
  "import os, urllib.request as web; web.urlopen(f'http://127.0.0.1:{os.environ.get(\"UPSHOT_PORT\", 8000)}/livez', timeout=4)"]
ENTRYPOINT ["upshot"]
CMD ["serve", "--host", "0.0.0.0"]
