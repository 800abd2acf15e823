// Bundles src/ into one readable file that ComfyUI's page loads: `make page`.
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { build } from 'esbuild';

// a test compares it with the sources: the bundle is never older than they are
const hash = createHash('sha256');
for (const name of ['package-lock.json', ...readdirSync('src').sort().map((name) => `src/${name}`)]) hash.update(readFileSync(name));

await build({
    entryPoints: ['src/extension.js'],
    outfile: '../web/js/expression_editor.js',
    bundle: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    external: ['*/scripts/app.js', '*/scripts/api.js'],
    loader: { '.css': 'text', '.glsl': 'text' },
    banner: {
        js: `// Made by \`make page\` from page/src. Contains parts of OGL (https://github.com/oframe/ogl, the Unlicense: OGL_LICENSE.txt).
// sources: ${hash.digest('hex')}`,
    },
});
