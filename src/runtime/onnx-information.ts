import { env, listSupportedBackends } from 'onnxruntime-node';

/** What of ONNX Runtime is installed. */
export interface OnnxRuntimeInformation {
  readonly version: string;
  /** Execution providers by name; one that is not bundled needs files that the package does not bring. */
  readonly providers: readonly { readonly name: string; readonly isBundled: boolean }[];
}

export const onnxRuntimeInformation = (): OnnxRuntimeInformation => ({
  version: env.versions.node ?? env.versions.common,
  providers: listSupportedBackends().map(({ name, bundled }) => ({ name, isBundled: bundled })),
});
