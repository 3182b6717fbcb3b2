FROM python:3.11.14-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
# `embedded` brings PostgreSQL along, for one process without any server. A worker has its own, and is 76 MB smaller.
ARG EXTRA=""
WORKDIR /app
RUN pip install --no-cache-dir uv==0.13.9
COPY pyproject.toml setup.cfg uv.lock README.md ./
RUN uv sync --locked --no-dev --extra grpc ${EXTRA:+--extra "$EXTRA"} --no-install-project
COPY agents agents
COPY deploy/migrations deploy/migrations
COPY streamlens streamlens
COPY tables tables
COPY web web
RUN uv sync --locked --no-dev --extra grpc ${EXTRA:+--extra "$EXTRA"} \
  && .venv/bin/python -m compileall -q agents streamlens tables web

FROM python:3.11.14-slim-bookworm
# PostgreSQL refuses root and wants an account with a name; the data's directory is its home.
RUN useradd --uid 10001 --create-home --home-dir /var/lib/streamlens streamlens
COPY --from=build /app /app
USER 10001
WORKDIR /var/lib/streamlens
ENV PATH=/app/.venv/bin:$PATH STREAMLENS_DATA_DIR=/var/lib/streamlens/data STREAMLENS_HTTP_HOST=0.0.0.0
EXPOSE 8080 4317
# Whether the process lives. Whether it should get traffic is asked at /ready.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=2)"]
# Inside the container every address is reachable by others; who may reach the port is decided where it is published.
ENTRYPOINT ["streamlens"]
CMD ["worker", "--insecure"]
