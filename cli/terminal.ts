/** Where a command writes. */
export type Terminal = {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** stdout is a terminal that shows colours. */
  readonly colours: boolean;
  /** stderr is a terminal whose lines can be redrawn; otherwise progress is printed line by line. */
  readonly rewrites: boolean;
};
