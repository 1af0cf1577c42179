import { parser } from "@prometheus-io/lezer-promql";

type Tree = ReturnType<typeof parser.parse>;
type Node = Tree["topNode"];

export type Matcher = { readonly label: string; readonly operator: string; readonly value: string };
export type Selector = { readonly metric: string; readonly matchers: readonly Matcher[] };
/** The labels of a `by` or an `on`, and the series that they are labels of. */
export type Grouping = { readonly labels: readonly string[]; readonly metrics: readonly string[] };

export type PromqlParts = {
  /** What could not be parsed; empty where all of it is PromQL. */
  readonly errors: readonly string[];
  readonly selectors: readonly Selector[];
  readonly groupings: readonly Grouping[];
};

/** What a query is about, by Prometheus' own grammar. */
export function partsOfPromql(query: string): PromqlParts {
  const nodes = nodesIn(parser.parse(query).topNode);
  const text = ({ from, to }: Node) => query.slice(from, to);
  const selectorOf = (node: Node): Selector => ({
    metric: text(node.getChild("Identifier") ?? node),
    matchers: nodesIn(node)
      .filter(({ name }) => name === "UnquotedLabelMatcher")
      .map((matcher) => {
        const part = (name: string) => nodesIn(matcher).find((one) => one.name === name) ?? matcher;
        return {
          label: text(part("LabelName")),
          operator: text(part("MatchOp")),
          value: text(part("StringLiteral")).slice(1, -1),
        };
      }),
  });
  const selectorsIn = (node: Node) =>
    nodesIn(node)
      .filter(({ name }) => name === "VectorSelector")
      .map(selectorOf);
  return {
    errors: nodes
      .filter(({ type }) => type.isError)
      .map(({ from }) => `at ${from}: ${query.slice(from, from + 20)}`),
    selectors: nodes.flatMap((node) => (node.name === "VectorSelector" ? [selectorOf(node)] : [])),
    groupings: nodes
      .filter(({ name }) => name === "GroupingLabels")
      .map((node) => ({
        labels: nodesIn(node)
          .filter(({ name }) => name === "LabelName")
          .map(text),
        // Its modifier, and the aggregation or the operator of that.
        metrics: selectorsIn(node.parent?.parent ?? node).map(({ metric }) => metric),
      })),
  };
}

function nodesIn(node: Node): readonly Node[] {
  const found: Node[] = [];
  node.cursor().iterate((at) => {
    found.push(at.node);
  });
  return found;
}
