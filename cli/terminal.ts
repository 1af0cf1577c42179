/** Where a command writes. */
export type Terminal = {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Somebody looks at stdout in colours. */
  readonly colours: boolean;
  /** Lines of stderr can be written over; else progress is told line by line. */
  readonly rewrites: boolean;
};
