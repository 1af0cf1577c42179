# One image, four programs: the operator (default), the verifier sidecar, the IoT Hub simulator, edgefleet for people and CI.
#   docker build -t edge-fleet-operator .            or: make image
#   docker run edge-fleet-operator dist/src/verifier.js --help
#   docker run edge-fleet-operator dist/simulator/main.js --help
#   docker run edge-fleet-operator dist/cli/main.js --help
# onnxruntime-node needs glibc and libstdc++: Debian or distroless/cc, not Alpine.
ARG BASE=node:24.21.0-bookworm-slim

FROM ${BASE} AS build
WORKDIR /app
# ONNX's StringNormalizer asks for this locale by name; slim images have none.
RUN apt-get update \
 && apt-get install -y --no-install-recommends locales \
 && localedef -i en_US -f UTF-8 en_US.UTF-8
COPY package.json package-lock.json .npmrc ./
RUN npm ci
COPY tsconfig.json tsconfig.build.json ./
COPY src src
COPY simulator simulator
COPY cli cli
RUN npm run build
# What runs needs no compiler, no second Node, and ONNX Runtime for this platform alone (288 MB become 45).
RUN npm prune --omit=dev --omit=optional \
 && cd node_modules/onnxruntime-node/bin/napi-v6 \
 && find . -mindepth 1 -maxdepth 1 ! -name linux -exec rm -rf {} + \
 && find linux -mindepth 1 -maxdepth 1 ! -name "$(node -p process.arch)" -exec rm -rf {} +

FROM ${BASE}
WORKDIR /app
ENV NODE_ENV=production
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY --from=build /usr/lib/locale /usr/lib/locale
# The verifier should be another user than the operator, of the same group: docker run --user 65533:65532.
USER 65532:65532
ENTRYPOINT ["node", "--max-semi-space-size=4"]
CMD ["dist/src/operator.js"]
