# A menu. Every recipe is one line; logic lives in `cargo xtask` and in the tests.
.PHONY: demo test bench soak lint crds kind-up kind-down

demo: ; cargo build --release -p lockstep-cli -p lockstep-agent --bins && target/release/lockstep run -f examples/quickstart.yaml
test: ; cargo test --workspace
bench: ; cargo xtask bench
soak: ; cargo xtask soak
lint: ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && cargo xtask tidy
crds: ; cargo xtask crds
kind-up: ; cargo xtask kind up
kind-down: ; cargo xtask kind down
