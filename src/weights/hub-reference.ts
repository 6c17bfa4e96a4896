/** A repository on the hub at a revision: `main`, a tag, a commit. */
export interface HubRepository {
  readonly kind: 'model' | 'dataset';
  /** `owner/name` */
  readonly name: string;
  readonly revision: string;
}

/** A model on the hub: `owner/name`, with a revision (`@main`, a tag, a commit) and, where there are several, one .gguf of it. */
export interface HubReference extends HubRepository {
  readonly ggufFile: string | undefined;
}

const pattern = /^(?:hub:)?(?<name>[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:\/(?<file>[\w./-]+\.gguf))?(?:@(?<revision>[\w./-]+))?$/;

/** Reads `owner/name`, `owner/name@revision`, `owner/name/file.gguf@revision`, each also with `hub:` in front; undefined for anything else. */
export const parseHubReference = (text: string): HubReference | undefined => {
  const { name, file, revision } = pattern.exec(text)?.groups ?? {};
  return name === undefined ? undefined : { kind: 'model', name, revision: revision ?? 'main', ggufFile: file };
};

export const hubReferenceText = ({ name, revision, ggufFile }: HubReference): string =>
  `${name}${ggufFile === undefined ? '' : `/${ggufFile}`}${revision === 'main' ? '' : `@${revision}`}`;

/** Data on the hub: `hub:owner/name`, with a subset, a folder, a file or a pattern of files (`main/train-*.parquet`) and a revision. */
export interface HubDataReference extends HubRepository {
  readonly path: string | undefined;
}

const dataPattern = /^hub:(?<name>[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:\/(?<path>[^@\s]*[^@\s/])\/?)?(?:@(?<revision>[\w./-]+))?$/;

/** Reads `hub:owner/name[/path][@revision]`; undefined for anything else. */
export const parseHubDataReference = (text: string): HubDataReference | undefined => {
  const { name, path, revision } = dataPattern.exec(text)?.groups ?? {};
  return name === undefined ? undefined : { kind: 'dataset', name, revision: revision ?? 'main', path };
};
