// The JavaScript client against a live server: objects, patches, watches and informers, Tables' sibling kinds, errors, exec.
// Prints one JSON document: what it has seen, by the name of the step.
import * as k8s from '@kubernetes/client-node';
import { PassThrough } from 'node:stream';

const [, , kubeconfig, namespace, pod] = process.argv;
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const seen = {};

async function until(condition) {
  for (let at = 0; at < 200 && !condition(); at++) await new Promise((done) => setTimeout(done, 25));
}

// An informer first, so that it sees everything that follows.
const told = [];
const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, () =>
  core.listNamespacedConfigMap({ namespace }),
);
for (const kind of ['add', 'update', 'delete']) informer.on(kind, (obj) => told.push([kind, obj.metadata.name]));
informer.on('error', (error) => told.push(['error', String(error)]));
await informer.start();

const body = { metadata: { name: 'js' }, data: { a: '1' } };
const made = await core.createNamespacedConfigMap({ namespace, body });
seen.created = { ...made.data };
made.data.a = '2';
seen.replaced = (await core.replaceNamespacedConfigMap({ namespace, name: 'js', body: made })).data;
try {
  await core.replaceNamespacedConfigMap({ namespace, name: 'js', body: made });
} catch (error) {
  seen.conflict = error.code;
}
seen.patched = (
  await core.patchNamespacedConfigMap(
    { namespace, name: 'js', body: [{ op: 'add', path: '/data/b', value: '3' }] },
    k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
  )
).data;

const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const deployment = {
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'js', namespace },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: 'js' } },
    template: { metadata: { labels: { app: 'js' } }, spec: { containers: [{ name: 'c', image: 'i' }] } },
  },
};
const applied = await objects.patch(
  deployment, undefined, undefined, 'js', true, k8s.PatchStrategy.ServerSideApply,
);
seen.applied = [applied.spec.replicas, applied.metadata.managedFields.map((each) => [each.manager, each.operation])];
const scale = await apps.readNamespacedDeploymentScale({ namespace, name: 'js' });
seen.scale = scale.spec.replicas;
seen.listed = (await core.listNamespacedConfigMap({ namespace, fieldSelector: 'metadata.name=js' })).items.length;

const events = [];
const watch = new k8s.Watch(config);
const request = await watch.watch(
  `/apis/apps/v1/namespaces/${namespace}/deployments`, {}, (type, obj) => events.push([type, obj.metadata.name]), () => {},
);
await until(() => events.length > 0);
request.abort();
seen.watched = events;

await core.deleteNamespacedConfigMap({ namespace, name: 'js' });
await until(() => told.some(([kind]) => kind === 'delete'));
seen.informed = [...told];
await informer.stop();
try {
  await core.readNamespacedConfigMap({ namespace, name: 'js' });
} catch (error) {
  seen.missing = [error.code, JSON.parse(error.body).reason];
}

if (pod) {
  const output = new PassThrough();
  const input = new PassThrough();
  let text = '';
  output.on('data', (data) => (text += data));
  const ended = new Promise((done) => {
    new k8s.Exec(config).exec(namespace, pod, 'c', ['cat'], output, null, input, false, (status) => done(status.status));
  });
  input.write('hello\n');
  await until(() => text === 'HELLO\n');
  input.write('exit\n');
  seen.exec = [await ended, text];
}
console.log(JSON.stringify(seen));
process.exit(0);
