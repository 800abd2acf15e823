// Bundles src/ into one readable file that ComfyUI's page loads: `make page`.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { build } from 'esbuild';

// tests compare both digests: the bundle is never older than what it is made from, and nobody wrote in it
const sources = createHash('sha256');
const names = ['build.js', 'package-lock.json', ...readdirSync('src').sort().map((name) => `src/${name}`)];
for (const name of names) sources.update(readFileSync(name));

const made = await build({
    entryPoints: ['src/extension.js'],
    outfile: '../web/js/expression_editor.js',
    write: false,
    bundle: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    external: ['*/scripts/app.js', '*/scripts/api.js'],
    loader: { '.css': 'text', '.glsl': 'text' },
});
const [{ path, text }] = made.outputFiles;
const banner = `// Made by \`make page\` from page/src. Contains parts of OGL (https://github.com/oframe/ogl, the Unlicense: OGL_LICENSE.txt).
// sources: ${sources.digest('hex')}
// what follows: ${createHash('sha256').update(text).digest('hex')}
`;
writeFileSync(path, banner + text);
