# The image of the DaemonSet. For both kinds of nodes:
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/shipper:0.1.0 --push .
# Every package has wheels for both. What is compiled is our own encoder (half a minute; minutes under an emulator), in a
# stage of its own: no compiler comes near the rest.
#
# A release pins the bases by their digests: --build-arg BASE=python:3.11-slim-bookworm@sha256:... and RUST alike.
# 3.11 is the version that requirements.lock was resolved for and the tests run on.
ARG BASE=python:3.11-slim-bookworm
ARG RUST=rust:1.95-slim-bookworm

FROM ${RUST} AS native
WORKDIR /native
COPY native .
# by Python's stable interface (abi3), so no Python is needed here
RUN PYO3_NO_PYTHON=1 cargo build --release --locked --features python

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
RUN python -m venv --without-pip /opt/shipper

# what changes seldom comes first, so that a new version of shipper is a small layer's build
COPY requirements.lock requirements-build.lock ./
RUN pip install --require-hashes --no-deps --only-binary=:all: --requirement requirements-build.lock \
 && pip --python /opt/shipper install --require-hashes --no-deps --only-binary=:all: --requirement requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY shipper shipper
COPY --from=native /native/target/release/libshipper_native.so shipper/_native.abi3.so
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir wheels . \
 && pip --python /opt/shipper install --no-deps --no-index wheels/shipper-*.whl \
 && python -m compileall -q -j 0 /opt/shipper/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="shipper" org.opencontainers.image.licenses="Apache-2.0"
# the root file system is read-only where this runs: byte code was made above, and nothing is written but below state_dir
ENV PATH=/opt/shipper/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=build /opt/shipper /opt/shipper
# uid 0, since log files are root's and 0600 on some runtimes; deploy/daemonset.yaml takes every capability away
USER 0:0
EXPOSE 2020
STOPSIGNAL SIGTERM
ENTRYPOINT ["shipper"]
CMD ["run", "/etc/shipper/config.yaml"]
