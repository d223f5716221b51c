# The command danet, for a CPU, or with an extra of pyproject.toml such as EXTRA=cuda12.
#   docker build -t danet .
#   docker run --rm -v "$PWD:/work" danet predict --workdir=runs/camvid --input=photos --output=labelled
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir=/wheel . && cp constraints.txt /wheel

FROM python:${PYTHON}-slim
ARG EXTRA=""
COPY --from=build /wheel /wheel
# A wheel's extra stands in brackets behind its path.
RUN set -- /wheel/*.whl && \
    pip install --no-cache-dir --constraint=/wheel/constraints.txt "$1${EXTRA:+[$EXTRA]}"
RUN useradd --create-home --uid=1000 danet && install --directory --owner=danet /work
USER 1000
# The user's folder is mounted here: sources, data and runs.
WORKDIR /work
ENTRYPOINT ["danet"]
CMD ["--help"]
