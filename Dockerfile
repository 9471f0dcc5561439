# The command `cohortsync` and nothing else: no compiler, no root. See docs/nightly-recipes.md.
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY engine engine
RUN python -m venv /opt/cohortsync \
    && /opt/cohortsync/bin/python -m pip install --no-cache-dir .

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home cohortsync
COPY --from=build /opt/cohortsync /opt/cohortsync
ENV PATH=/opt/cohortsync/bin:$PATH
WORKDIR /srv/cohortsync
USER 10001
ENTRYPOINT ["cohortsync"]
CMD ["sync"]
