FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X kcagent/cli.linked=$VERSION" -o /out/kcagent .
RUN mkdir /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/kcagent /kcagent
COPY LICENSE /LICENSE
COPY consumers.yaml /etc/kcagent/consumers.yaml
# A volume takes over the owner of the folder that it is put on.
COPY --from=build --chown=65532:65532 /out/data /data
# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/kcagent", "health"]
ENTRYPOINT ["/kcagent"]
CMD ["run", "--config", "/etc/kcagent/consumers.yaml", "--listen", "0.0.0.0:8080"]
