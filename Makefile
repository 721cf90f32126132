VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

.PHONY: check test e2e e2e-old soak kills bench plots image demo

# Everything that has to hold before a change lands.
check:
	.ci/run

# Tests on real Kafka are skipped, loudly, where Java or Maven is missing.
test:
	go test ./...

# The built binary on real Kafka alone; missing Java or Maven fails it.
e2e:
	KCAGENT_REQUIRE_KAFKA=1 go test -count=1 -timeout 15m ./e2e/...

# The same on the oldest line of Kafka that is tested.
e2e-old:
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_KAFKA_VERSION=3.9.1 go test -count=1 -timeout 15m ./e2e

# Consumers come and go for twenty minutes; memory must stay flat.
soak:
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_SOAK=20m go test -count=1 -timeout 30m -run Soak -v ./e2e

# Kills the agent a hundred times under load, and the broker now and then; each
# record must be in the files once.
kills:
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_KILLS=100 go test -count=1 -timeout 30m -run TestKillsLeaveEachRecordOnce -v ./e2e

# Measures every kind of record and prints tables; asserts no speed. It takes
# half an hour.
bench:
	mkdir -p dist/bench
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_BENCH_ALL=1 KCAGENT_BENCH_OUT=$(CURDIR)/dist/bench \
		go test -run '^$$' -bench . -benchtime 1x -timeout 90m ./bench

# Draws what bench measured; needs Python with matplotlib.
plots:
	python3 docs/plots.py dist/bench docs

image:
	docker build --build-arg VERSION=$(VERSION) -t kcagent:$(VERSION) -t kcagent .

demo:
	go run . demo
