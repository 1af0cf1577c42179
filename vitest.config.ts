import { configDefaults, defineConfig } from "vitest/config";

const UNIT = [
  "{src,simulator,cli,tools,examples}/**/*.test.ts",
  "test/*.test.ts",
  "test/{gitops,stories}/**/*.test.ts",
];
/** Tests that open sockets or start processes: these folders, and files beside the code that are named so. */
const INTEGRATION = [
  "{src,simulator,cli,tools,examples}/**/*.integration.test.ts",
  "test/{contract,simulator,verifier}/**/*.test.ts",
];

export default defineConfig({
  test: {
    sequence: { shuffle: true }, // a test that needs its neighbour fails
    env: { ORT_DISABLE_TELEMETRY: "1" }, // ONNX Runtime writes a log file for each process otherwise
    coverage: { provider: "v8", include: ["src/**/*.ts", "simulator/**/*.ts"], reporter: ["text", "lcov"] },
    projects: [
      {
        extends: true,
        test: {
          name: "unit",
          include: UNIT,
          exclude: [...configDefaults.exclude, "**/*.integration.test.ts"],
          setupFiles: ["test/unit-setup.ts"],
          testTimeout: 60_000,
        },
      },
      { extends: true, test: { name: "integration", include: INTEGRATION, testTimeout: 60_000 } },
      {
        extends: true,
        test: {
          name: "envtest",
          include: ["test/envtest/**/*.test.ts"],
          globalSetup: ["test/envtest/setup.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: "conformance",
          include: ["test/conformance/**/*.test.ts"],
          testTimeout: 600_000,
          hookTimeout: 300_000, // on a new machine the data is fetched
        },
      },
      {
        extends: true,
        test: {
          name: "models",
          include: ["test/models/**/*.test.ts"],
          testTimeout: 120_000,
          hookTimeout: 300_000, // on a new machine Python's packages are fetched
        },
      },
      {
        extends: true,
        test: {
          name: "sdk",
          include: ["test/sdk/**/*.test.ts"],
          testTimeout: 60_000,
          hookTimeout: 300_000, // on a new machine Python's packages are fetched
          maxConcurrency: 32, // these tests wait more than they work
        },
      },
      {
        extends: true,
        test: {
          name: "chart",
          include: ["test/chart/**/*.test.ts"],
          globalSetup: ["test/envtest/setup.ts"],
          fileParallelism: false, // an operator here watches all namespaces
          testTimeout: 120_000,
          hookTimeout: 300_000,
        },
      },
      {
        extends: true,
        test: {
          name: "e2e",
          include: ["test/e2e/**/*.test.ts"],
          globalSetup: ["test/envtest/setup.ts"],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
          sequence: { shuffle: false }, // a file is a story, told in order
        },
      },
    ],
  },
});
