// Bundles src/ into one readable file that ComfyUI's page loads: `make page`.
import { build } from 'esbuild';

await build({
    entryPoints: ['src/extension.js'],
    outfile: '../web/js/expression_editor.js',
    bundle: true,
    format: 'esm',
    target: 'es2022',
    charset: 'utf8',
    external: ['*/scripts/app.js'],
    loader: { '.css': 'text', '.glsl': 'text' },
    banner: { js: '// Made by `make page` from page/src. Contains parts of OGL (https://github.com/oframe/ogl, the Unlicense: OGL_LICENSE.txt).' },
});
