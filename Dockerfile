# The steps of `make setup` without the tools for development.
FROM python:3.13-slim AS build
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /opt/chinwag \
 && /opt/chinwag/bin/python -m pip install --quiet --require-hashes -r requirements.txt
COPY sdk/python sdk/python
COPY server server
RUN /opt/chinwag/bin/python -m pip install --quiet --no-deps --no-build-isolation ./sdk/python ./server

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/chinwag --create-home chinwag
COPY --from=build /opt/chinwag /opt/chinwag
USER chinwag
VOLUME /var/lib/chinwag
# A public bind wants TLS (CHINWAG_LISTEN_TLS_CERT_FILE, ..._KEY_FILE), or CHINWAG_LISTEN_INSECURE=true
# where something in front ends it.
ENV PATH=/opt/chinwag/bin:$PATH \
    CHINWAG_DATA_DIR=/var/lib/chinwag \
    CHINWAG_LISTEN_HOST=0.0.0.0 \
    CHINWAG_HTTP_HOST=0.0.0.0 \
    CHINWAG_HTTP_PORT=7401 \
    CHINWAG_LOG_FORMAT=json
EXPOSE 7400 7401
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7401/healthz', timeout=2)"]
ENTRYPOINT ["chinwag"]
CMD ["serve"]
