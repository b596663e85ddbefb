// In a pod: who we are by what the kubelet has put there, and the pods of our namespace.
import { CoreV1Api, KubeConfig } from "@kubernetes/client-node";

const config = new KubeConfig();
config.loadFromCluster();
const namespace = config.getContextObject(config.getCurrentContext()).namespace;
const pods = await config.makeApiClient(CoreV1Api).listNamespacedPod({ namespace });
console.log(JSON.stringify({ namespace, pods: pods.items.map((each) => each.metadata.name) }));
