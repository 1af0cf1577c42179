import { cel } from "./schema.ts";
import { Type } from "./type.ts";

export const blobSchema = Type.Object(
  {
    container: Type.String({
      description: "Blob container.",
      pattern: "^[a-z0-9]([a-z0-9-]{1,61}[a-z0-9])$",
      maxLength: 63,
    }),
    path: Type.String({
      description: "Path of the blob in the container.",
      minLength: 1,
      maxLength: 1024,
      pattern: "^[A-Za-z0-9._/+=@-]+$",
      "x-kubernetes-validations": [
        cel(
          "!self.startsWith('/') && !self.contains('..')",
          "the path must be relative to the container, without ..",
        ),
      ],
    }),
  },
  { description: "Blob in the storage account that the operator is configured with." },
);
