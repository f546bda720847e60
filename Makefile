# A menu. Every recipe is one line; logic lives in `cargo xtask` and in the tests.
.PHONY: demo test e2e bench bench-cluster soak lint crds image image-docker cluster-up cluster-down kind-up kind-down

demo: ; cargo build --release -p lockstep-cli -p lockstep-agent --bins && target/release/lockstep run -f examples/quickstart.yaml
test: ; cargo test --workspace
e2e: ; cargo build --workspace --bins && $${CARGO_TARGET_DIR:-target}/debug/xtask e2e
bench: ; cargo xtask bench
bench-cluster: ; cargo build --workspace --bins && $${CARGO_TARGET_DIR:-target}/debug/xtask e2e bench
soak: ; cargo xtask soak
lint: ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && cargo xtask tidy
crds: ; cargo xtask crds
image: ; cargo xtask image
image-docker: ; docker buildx build --load --tag lockstep:0.1.0 --build-arg REVISION=$$(git rev-parse HEAD) --build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) .
cluster-up: ; cargo xtask image --profile dev --output target/image/lockstep.tar && cargo run --package lockstep-cluster -- up --image target/image/lockstep.tar
cluster-down: ; cargo run --package lockstep-cluster -- down
kind-up: ; cargo xtask kind up
kind-down: ; cargo xtask kind down
