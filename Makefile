VERSION ?= $(or $(patsubst v%,%,$(shell git describe --tags --always --dirty 2>/dev/null)),devel)

# Packages whose tests need seconds of waiting, or real Kafka: make check leaves them out.
SLOW  := ^kcagent/(fetch|agent|agent/group|agent/precheck|sink/file|e2e|e2e/.*|bench|bench/.*)$$
QUICK = $(shell go list ./... | grep -Ev '$(SLOW)')

# With make e2e and make bench: which tests to run, such as RUN=TestKill.
RUN ?= .

# Where make bench writes its figures.
FIGURES ?= docs/performance

.PHONY: build check ci generate test test-quick test-race e2e e2e-old soak kills bench bench-compare plots image docker release demo

build:
	CGO_ENABLED=0 go build -trimpath -ldflags "-X kcagent/cli.linked=$(VERSION)" -o kcagent .

# Before each commit, in less than a minute: format, analysis, generated pages, quick tests.
check:
	go vet ./...
	@unformatted=$$(go run mvdan.cc/gofumpt@v0.12.0 -l .); [ -z "$$unformatted" ] || { echo "run gofumpt -w on:"; echo "$$unformatted"; exit 1; }
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	go test -short -p 4 $(QUICK)

# Everything that must hold before a change is merged.
ci:
	.ci/run

# Writes the reference pages and the manual pages in docs/ from the code.
generate:
	go generate ./docs

# Tests on real Kafka are skipped, with a notice, where Java or Maven is missing.
test:
	go test ./...

# Tests that need no server. Many of them wait, so more run at a time than there are
# processors.
test-quick:
	go test -short -p 4 -parallel 8 ./...

# The tests without real Kafka under the race detector.
test-race:
	go test -race -short ./...

# The built binary on real Kafka. It fails if Java or Maven is missing.
e2e:
	KCAGENT_REQUIRE_KAFKA=1 go test -count=1 -timeout 15m -run '$(RUN)' ./e2e/...

# The same on the oldest version of Kafka that is tested.
e2e-old:
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_KAFKA_VERSION=3.9.1 go test -count=1 -timeout 15m -run '$(RUN)' ./e2e

# Creates and removes consumers for twenty minutes; memory must not grow.
soak:
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_SOAK=20m go test -count=1 -timeout 30m -run Soak -v ./e2e

# Kills the agent a hundred times under load, and the broker now and then; each
# record must be in the files, and in the objects, once.
kills:
	KCAGENT_REQUIRE_KAFKA=1 KCAGENT_KILLS=100 go test -count=1 -timeout 30m -run TestKillsLeaveEachRecord -v ./e2e

# Measures throughput and the costs of consumers, and writes the figures of
# docs/performance.md and docs/sizing.md; asserts no speed. It takes 25 minutes, and needs an
# idle machine. As root, it also counts the writes of the disk.
bench:
	mkdir -p $(FIGURES)
	for part in $(or $(filter-out .,$(RUN)),Throughput Profile Objects Clusters Consumers Sizing); do \
		KCAGENT_REQUIRE_KAFKA=1 KCAGENT_BENCH_ALL=1 KCAGENT_BENCH_OUT=$(abspath $(FIGURES)) \
			go test -run '^$$' -bench "$$part" -benchtime 1x -timeout 90m ./bench || exit 1; \
	done

# Compares the working tree in turns with the last commit of main, with the commit before it if
# the working tree is that commit, or with BASE=COMMIT: throughput, memory and goroutines of a
# thousand consumers, time of an edit, writes for each flush. It takes ten minutes.
# KCAGENT_BENCH_ROUNDS, _MB and _CONSUMERS change the sizes.
bench-compare:
	BASE=$(BASE) bench/compare.sh

# Writes the pages from docs/performance, and the plots from FIGURES; needs Python with
# matplotlib.
plots:
	go test -count=1 ./docs -run '^TestSizingTable|^TestReferencePages$$/^performance.md$$' -update
	python3 docs/plots.py $(FIGURES) docs

# The image of the working tree, without a container engine, in dist/image.
image:
	go run ./deploy/release --snapshot --only image,sbom --out dist/image

# The image by the Dockerfile; needs Docker.
docker:
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(shell git rev-parse HEAD) \
		--build-arg CREATED=$(shell date -u +%Y-%m-%dT%H:%M:%SZ) -t kcagent:$(VERSION) -t kcagent .

# Everything that a release of the tagged commit consists of, in dist/release. With
# ARGS=--snapshot, it builds the working tree.
release:
	go run ./deploy/release $(ARGS)

demo:
	go run . demo
