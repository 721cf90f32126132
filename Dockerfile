FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X kcagent/cli.linked=$VERSION" -o /out/kcagent .
RUN go run ./deploy/licenses/print >/out/THIRD_PARTY_LICENSES
RUN mkdir /out/data \
 && printf 'root:x:0:0:root:/:/sbin/nologin\nkcagent:x:65532:65532:kcagent:/data:/sbin/nologin\n' >/out/passwd \
 && printf 'root:x:0:\nkcagent:x:65532:\n' >/out/group

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/passwd /out/group /etc/
COPY --from=build /out/kcagent /kcagent
COPY LICENSE /LICENSE
COPY --from=build /out/THIRD_PARTY_LICENSES /THIRD_PARTY_LICENSES
COPY consumers.yaml /etc/kcagent/consumers.yaml
# A volume takes over the owner of the folder that it is put on.
COPY --from=build --chown=65532:65532 /out/data /data
ARG VERSION=devel
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="kcagent" \
      org.opencontainers.image.description="runs the Kafka consumers declared in one YAML file" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
# By number: Kubernetes' runAsNonRoot cannot judge a name.
USER 65532:65532
WORKDIR /data
# For the spool of objects: the image has no /tmp.
ENV TMPDIR=/data
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/kcagent", "health"]
ENTRYPOINT ["/kcagent"]
CMD ["run", "--config", "/etc/kcagent/consumers.yaml", "--listen", "0.0.0.0:8080"]
