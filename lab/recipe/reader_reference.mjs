// What face-api itself makes of the reference squares, on TensorFlow.js: tests/data/reader_face_api.json.
//
//   npm install @vladmandic/face-api@1.7.15 @tensorflow/tfjs@4.22.0 @tensorflow/tfjs-backend-wasm@4.22.0
//   python tests/reader_inputs.py squares.bin
//   node lab/recipe/reader_reference.mjs squares.bin > tests/data/reader_face_api.json
//
// Run it where those packages were installed (outside the repository), with the three paths as they lie there.
import fs from 'node:fs';
import path from 'node:path';
import { createRequire } from 'node:module';

const require = createRequire(path.join(process.cwd(), 'here.js'));
const root = path.dirname(require.resolve('@vladmandic/face-api/package.json'));
const faceapi = require(path.join(root, 'dist/face-api.node-wasm.js'));
const tf = faceapi.tf;
console.warn = () => {};
await tf.setBackend('cpu');
await tf.ready();

const manifest = JSON.parse(fs.readFileSync(path.join(root, 'model/face_expression_model-weights_manifest.json')));
const weights = fs.readFileSync(path.join(root, 'model/face_expression_model.bin'));
const net = new faceapi.FaceExpressionNet();
net.loadFromWeightMap(tf.io.decodeWeights(weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length), manifest[0].weights));

const side = 112, bytes = side * side * 3;
const squares = fs.readFileSync(process.argv[2]);
const probabilities = [];
for (let start = 0; start < squares.length; start += bytes) {
  const square = tf.tensor3d(Array.from(squares.subarray(start, start + bytes)), [side, side, 3]);
  probabilities.push(Array.from((await net.forward(square)).dataSync(), (value) => Number(value.toFixed(6))));
}
const rows = probabilities.map((row) => '  ' + JSON.stringify(row)).join(',\n');
process.stdout.write(`{\n "made_by": "lab/recipe/reader_reference.mjs, @vladmandic/face-api 1.7.15 on tfjs ${tf.version_core}",\n "probabilities": [\n${rows}\n ]\n}\n`);
