/** Sums of a run of samples after another, for one output. */
export type MeanErrors = {
  /**
   * @param errors the distance of each element from what is expected, in C order; infinite where there is none.
   * @param columns elements of each sample.
   */
  readonly add: (errors: Float64Array, columns: number) => void;
  /** `null` before the first sample, and where samples have different numbers of elements. */
  readonly found: () => { readonly rootMeanSquared: number; readonly meanAbsolute: number } | null;
};

/**
 * Root mean squared and mean absolute error, as scikit-learn's root_mean_squared_error and mean_absolute_error have
 * them: over the samples for each column, then the mean over the columns.
 */
export function createMeanErrors(): MeanErrors {
  let squares: Float64Array | null = null;
  let sizes: Float64Array = new Float64Array();
  let rows = 0;
  let uneven = false;
  return {
    add: (errors, columns) => {
      if (columns === 0) return;
      if (squares === null) {
        squares = new Float64Array(columns);
        sizes = new Float64Array(columns);
      }
      uneven ||= squares.length !== columns;
      rows += errors.length / columns;
      for (const [at, error] of errors.entries()) {
        const column = at % columns;
        squares[column] = (squares[column] ?? 0) + error * error;
        sizes[column] = (sizes[column] ?? 0) + error;
      }
    },
    found: () => {
      if (squares === null || uneven || rows === 0) return null;
      const mean = (values: Float64Array, of: (sum: number) => number) =>
        values.reduce((sum, value) => sum + of(value / rows), 0) / values.length;
      return { rootMeanSquared: mean(squares, Math.sqrt), meanAbsolute: mean(sizes, (value) => value) };
    },
  };
}
