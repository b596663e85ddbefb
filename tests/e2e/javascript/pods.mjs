// The official JavaScript client on a real pod: exec with its status, attach, logs, port-forward, an informer that sees the pod end.
import * as k8s from '@kubernetes/client-node';
import { PassThrough } from 'node:stream';
import net from 'node:net';

const [kubeconfig, namespace, image] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(k8s.CoreV1Api);
const seen = {};

async function until(condition) {
  const end = Date.now() + 60000;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not within a minute: ${condition}; so far ${JSON.stringify(seen)}`);
    await new Promise((done) => setTimeout(done, 20));
  }
}

function gather() {
  const stream = new PassThrough();
  const found = { stream, text: '' };
  stream.on('data', (data) => (found.text += data));
  return found;
}

const list = () => core.listNamespacedPod({ namespace });
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/pods`, list);
const phases = [];
const note = (pod) => phases.at(-1) !== pod.status.phase && phases.push(pod.status.phase);
informer.on('add', note);
informer.on('update', note);
let gone = false;
informer.on('delete', () => (gone = true));
await informer.start();

const serve = 'import http.server as s; s.test(s.SimpleHTTPRequestHandler, port=8080)';
await core.createNamespacedPod({
  namespace,
  body: {
    metadata: { name: 'js' },
    spec: {
      terminationGracePeriodSeconds: 0,
      containers: [
        { name: 'talks', image, stdin: true, command: ['sh', '-c', 'echo begin; while read line; do echo got $line; done'] },
        { name: 'serves', image, workingDir: '/', command: ['python3', '-c', serve] },
      ],
    },
  },
});
await until(() => phases.at(-1) === 'Running');
seen.phases = [...phases];

const exec = new k8s.Exec(config);
async function run(command, input = null) {
  const out = gather();
  const err = gather();
  const status = await new Promise((done) => {
    exec.exec(namespace, 'js', 'talks', command, out.stream, err.stream, input, false, done);
  });
  return [status.status, out.text, err.text, status.details?.causes?.[0]?.message ?? ''];
}
seen.exec = await run(['echo', 'hello']);
seen.failed = await run(['sh', '-c', 'echo out; echo err >&2; exit 7']);
seen.logs = await core.readNamespacedPodLog({ namespace, name: 'js', container: 'talks' });

const attached = gather();
const typed = new PassThrough();
await new k8s.Attach(config).attach(namespace, 'js', 'talks', attached.stream, null, typed, false);
typed.write('a line\n');
await until(() => attached.text === 'got a line\n');
seen.attached = attached.text;

const forward = new k8s.PortForward(config);
const server = net.createServer((socket) => forward.portForward(namespace, 'js', [8080], socket, null, socket));
await new Promise((done) => server.listen(0, '127.0.0.1', done));
seen.forwarded = await new Promise((done, fail) => {
  let text = '';
  const socket = net.connect(server.address().port, '127.0.0.1', () => socket.write('GET /etc/hostname HTTP/1.0\r\n\r\n'));
  socket.on('data', (data) => {
    text += data;
    if (text.includes('\r\n\r\n')) done(text.split('\r\n')[0]);
  });
  socket.on('error', fail);
});

await core.deleteNamespacedPod({ namespace, name: 'js' });
await until(() => gone);
console.log(JSON.stringify(seen));
process.exit(0);
