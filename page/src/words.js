/** The editor's words in the page's language (ComfyUI's setting Comfy.Locale), English where there is no book for it. Books are keyed by the English. */

import { app } from '../../../scripts/app.js';
import ja from './words.ja.json';
import ko from './words.ko.json';
import zh from './words.zh.json';

const BOOKS = { ja, ko, zh };

/** `words` in the page's language; `{0}`, `{1}` ... are replaced by `parts`. Nodes made after a change of language have the new one. */
export function say(words, ...parts) {
    const book = BOOKS[app.extensionManager?.setting.get('Comfy.Locale')] ?? {};
    return (book[words] ?? words).replace(/\{(\d)\}/g, (_, number) => parts[number]);
}
