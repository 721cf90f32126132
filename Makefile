VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: check test e2e bench image demo

# Everything that has to hold before a change lands.
check:
	.ci/run

# Tests on real Kafka are skipped, loudly, where Java or Maven is missing.
test:
	go test ./...

# The built binary on real Kafka alone; missing Java or Maven fails it.
e2e:
	KCAGENT_REQUIRE_KAFKA=1 go test -count=1 -timeout 15m ./e2e/...

# Measures and prints; asserts no speed.
bench:
	KCAGENT_REQUIRE_KAFKA=1 go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./bench

image:
	docker build --build-arg VERSION=$(VERSION) -t kcagent:$(VERSION) -t kcagent .

demo:
	go run . demo
