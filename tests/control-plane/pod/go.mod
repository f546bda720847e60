module lockstep.dev/tests/control-plane/pod

go 1.26.0
