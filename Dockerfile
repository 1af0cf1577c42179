# One image, four programs: the operator (default), the verifier sidecar, the IoT Hub simulator, edgefleet for people and CI.
#   docker build -t edge-fleet-operator .            or: make image
#   docker run edge-fleet-operator verifier.js --help
#   docker run edge-fleet-operator simulator.js --help
#   docker run edge-fleet-operator edgefleet.js --help
# onnxruntime-node needs glibc and libstdc++: Debian or distroless/cc, not Alpine.
# Kubernetes has probes of its own; the programs differ too much for one HEALTHCHECK.
ARG BASE=node:24.21.0-bookworm-slim

# On the builder's own platform: nothing here is compiled, and the build takes ONNX Runtime of the target's.
FROM --platform=${BUILDPLATFORM:-linux} ${BASE} AS build
ARG TARGETARCH
WORKDIR /build
# ONNX's StringNormalizer asks for this locale by name; slim images have none.
RUN apt-get update \
 && apt-get install -y --no-install-recommends locales \
 && localedef -i en_US -f UTF-8 en_US.UTF-8
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tools tools
COPY src src
COPY simulator simulator
COPY cli cli
RUN node tools/build.ts --out /app --arch "${TARGETARCH:-$(node -p process.arch)}"

FROM ${BASE}
ARG VERSION=0.1.0 REVISION=unknown CREATED=unknown
LABEL org.opencontainers.image.title="Edge Fleet Operator" \
      org.opencontainers.image.description="Rolls ONNX models out to fleets of edge devices behind Azure IoT Hub" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
WORKDIR /app
ENV NODE_ENV=production
COPY --from=build /app /app
COPY --from=build /usr/lib/locale /usr/lib/locale
# The verifier should be another user than the operator, of the same group: docker run --user 65533:65532.
USER 65532:65532
ENTRYPOINT ["node", "--max-semi-space-size=4", "--enable-source-maps"]
CMD ["operator.js"]
