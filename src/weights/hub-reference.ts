/** A model on the hub: `owner/name`, with a revision (`@main`, a tag, a commit) and, where there are several, one .gguf of it. */
export interface HubReference {
  /** `owner/name` */
  readonly name: string;
  readonly revision: string;
  readonly ggufFile: string | undefined;
}

const pattern = /^(?:hub:)?(?<name>[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*)(?:\/(?<file>[\w./-]+\.gguf))?(?:@(?<revision>[\w./-]+))?$/;

/** Reads `owner/name`, `owner/name@revision`, `owner/name/file.gguf@revision`, each also with `hub:` in front; undefined for anything else. */
export const parseHubReference = (text: string): HubReference | undefined => {
  const { name, file, revision } = pattern.exec(text)?.groups ?? {};
  return name === undefined ? undefined : { name, revision: revision ?? 'main', ggufFile: file };
};

export const hubReferenceText = ({ name, revision, ggufFile }: HubReference): string =>
  `${name}${ggufFile === undefined ? '' : `/${ggufFile}`}${revision === 'main' ? '' : `@${revision}`}`;
