# The image, with Docker; docs/image.md says how to make it without. What is in it is decided in crates/image, for both.
#
#   docker buildx build --load --tag lockstep:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --push --tag registry.example/lockstep:0.1.0 .
#
# Compilers run as what they are and make programs for the other architecture: nothing is emulated, and the last stage runs
# nothing. The same sources, base image and SOURCE_DATE_EPOCH give the same files.

ARG RUST_VERSION=1.95
ARG DEBIAN=bookworm

FROM --platform=$BUILDPLATFORM rust:${RUST_VERSION}-slim-${DEBIAN} AS toolchain
ARG BUILDARCH
ARG TARGETARCH
WORKDIR /src
# Debian's cross compilers are called alike on every machine, and gcc has such a name for the machine's own too.
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) rust=x86_64 debian=x86-64 ;; \
        arm64) rust=aarch64 debian=aarch64 ;; \
        *) echo "no image is made for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    echo "$rust-unknown-linux-gnu" > /triple; \
    rustup target add "$(cat /triple)"; \
    printf '[target.%s]\nlinker = "%s-linux-gnu-gcc"\n' "$(cat /triple)" "$rust" > "$CARGO_HOME/config.toml"; \
    if [ "$BUILDARCH" != "$TARGETARCH" ]; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends "gcc-$debian-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
        rm -rf /var/lib/apt/lists/*; \
        dpkg --add-architecture "$TARGETARCH"; \
    fi

# The manifests, with empty sources: as long as no dependency changes, the files of this stage are the same ones, and the
# layer below with all that was built from them is taken from the cache.
FROM toolchain AS manifests
COPY . /src
RUN set -eu; \
    mkdir /manifests; \
    find . -name Cargo.toml -exec cp --parents -t /manifests {} +; \
    cp --parents -t /manifests Cargo.lock .cargo/config.toml; \
    cd /manifests; \
    find . -mindepth 2 -name Cargo.toml -exec dirname {} \; | while read -r package; do \
        mkdir -p "$package/src"; \
        : > "$package/src/lib.rs"; \
        echo 'fn main() {}' > "$package/src/main.rs"; \
        if [ -e "/src/$package/build.rs" ]; then echo 'fn main() {}' > "$package/build.rs"; fi; \
    done; \
    find . -exec touch --no-dereference --date=@0 {} +

FROM toolchain AS build
ENV CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=0
COPY --from=manifests /manifests /src
# What was made of empty sources is forgotten at once: cargo goes by times, and the true sources are older.
RUN set -eu; \
    cargo build --locked --release --target "$(cat /triple)" -p lockstep-operator -p lockstep-agent -p lockstep-cli --bins; \
    cargo build --locked -p lockstep-image --bins; \
    find target -depth -path '*/.fingerprint/lockstep-*' -delete
COPY . /src
RUN set -eu; \
    cargo build --locked --release --target "$(cat /triple)" -p lockstep-operator -p lockstep-agent -p lockstep-cli --bins; \
    cargo build --locked -p lockstep-image --bins

FROM build AS assembly
ARG SOURCE_DATE_EPOCH=0
RUN set -eu; \
    apt-get update; \
    target/debug/lockstep-image --binaries "target/$(cat /triple)/release" --tree /files --time "$SOURCE_DATE_EPOCH"

# The files alone. A test puts the directory of an image that was made without Docker in the place of this stage
# (`--build-context files=DIRECTORY`), and compares.
FROM scratch AS files
COPY --from=assembly /files/ /

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Lockstep" \
      org.opencontainers.image.description="Coordinated storage benchmarks: operator, agent and command line" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://lockstep.dev" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=files / /
ENV PATH=/
USER 65532:65532
ENTRYPOINT ["/lockstep"]
