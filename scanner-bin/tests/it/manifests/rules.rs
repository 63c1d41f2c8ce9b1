//! What no schema knows: do the objects of an overlay go together, and with what the service is?

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::render::Objects;

/// What static members are called by: the variable for `group.instance.id`.
pub(crate) const MEMBER: &str = "SCANNER_KAFKA__PROPERTIES__GROUP_INSTANCE_ID";
const PARTITIONS: &str = "scanner-bin/partitions";

/// What does not go together.
pub(crate) fn complaints(objects: &Objects) -> Vec<String> {
    let mut found = Vec::new();
    for rule in [
        secrets,
        names,
        selectors,
        image,
        references,
        volumes,
        room,
        network,
        metrics,
        budget,
        membership,
        autoscaling,
    ] {
        rule(objects, &mut found);
    }
    found
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// Bytes of a quantity such as 128Mi.
fn bytes(quantity: &Value) -> Option<u64> {
    let text = quantity.as_str()?;
    let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
    let (number, shift) = units
        .iter()
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)))?;
    number.parse::<u64>().ok()?.checked_shl(*shift)
}

/// A Secret under version control is none.
fn secrets(objects: &Objects, found: &mut Vec<String>) {
    for secret in objects.of("Secret") {
        let name = text(&secret["metadata"], "name");
        found.push(format!("Secret {name}: its content would stand in a file"));
    }
}

/// All that belongs together is found together: by one label and in one namespace.
fn names(objects: &Objects, found: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    let namespaces = objects
        .0
        .iter()
        .map(|one| text(&one["metadata"], "namespace"));
    if namespaces.collect::<BTreeSet<_>>().len() > 1 {
        found.push("namespace: more than one".to_owned());
    }
    for object in &objects.0 {
        let (kind, metadata) = (text(object, "kind"), &object["metadata"]);
        if metadata["labels"]["app.kubernetes.io/name"] != "scanner-bin" {
            found.push(format!("{kind}: without the label of the others"));
        }
        if !seen.insert((kind, text(metadata, "name"))) {
            found.push(format!("{kind}: twice"));
        }
    }
}

/// Whoever selects pods selects ours.
fn selectors(objects: &Objects, found: &mut Vec<String>) {
    let workload = objects.workload();
    let labels = &workload["spec"]["template"]["metadata"]["labels"];
    let mut selects = |what: String, selector: &Value| {
        let wanted = selector.as_object().cloned().unwrap_or_else(Map::new);
        // An empty selector selects every pod there is, or none.
        if wanted.is_empty() || wanted.iter().any(|(name, value)| labels[name] != *value) {
            found.push(format!("{what}: does not select the scanner's pods"));
        }
    };
    let of = |kind: &str| objects.of(kind).into_iter().cloned().collect::<Vec<_>>();
    selects(
        text(workload, "kind").to_owned(),
        &workload["spec"]["selector"]["matchLabels"],
    );
    for kind in ["PodDisruptionBudget", "PodMonitor"] {
        for object in of(kind) {
            selects(kind.to_owned(), &object["spec"]["selector"]["matchLabels"]);
        }
    }
    for policy in of("NetworkPolicy") {
        selects(
            "NetworkPolicy".to_owned(),
            &policy["spec"]["podSelector"]["matchLabels"],
        );
    }
    for service in of("Service") {
        selects("Service".to_owned(), &service["spec"]["selector"]);
    }
    let mut spread = 0;
    for constraint in list(objects.pod(), "topologySpreadConstraints") {
        spread += 1;
        selects(
            "topologySpreadConstraints".to_owned(),
            &constraint["labelSelector"]["matchLabels"],
        );
    }
    if spread == 0 {
        found.push("topologySpreadConstraints: none".to_owned());
    }
}

/// The same file starts the same program, today and tomorrow.
fn image(objects: &Objects, found: &mut Vec<String>) {
    for container in list(objects.pod(), "containers") {
        let image = text(container, "image");
        let last = image.rsplit('/').next().unwrap_or_default();
        let tag = last.split_once(':').map(|(_, tag)| tag);
        let is_pinned = last.contains('@') || tag.is_some_and(|tag| tag != "latest");
        if !is_pinned {
            found.push(format!("image {image}: names no version"));
        }
    }
}

/// What is named is there.
fn references(objects: &Objects, found: &mut Vec<String>) {
    let is_there = |kind: &str, name: &str| {
        let objects = objects.of(kind);
        objects
            .iter()
            .any(|object| text(&object["metadata"], "name") == name)
    };
    let pod = objects.pod();
    for container in list(pod, "containers") {
        for source in list(container, "envFrom") {
            let name = text(&source["configMapRef"], "name");
            if !is_there("ConfigMap", name) {
                found.push(format!("envFrom: there is no ConfigMap {name}"));
            }
        }
    }
    let account = text(pod, "serviceAccountName");
    if !is_there("ServiceAccount", account) {
        found.push(format!("serviceAccountName: there is no {account:?}"));
    }
    for holder in objects.of("ServiceAccount").into_iter().chain([pod]) {
        if holder["automountServiceAccountToken"] != false {
            found.push("automountServiceAccountToken: a token would be there".to_owned());
        }
    }
    // SCANNER_PORT and the like, for a Service called scanner, are unknown settings.
    if pod["enableServiceLinks"] != false {
        found
            .push("enableServiceLinks: variables of Services would be unknown settings".to_owned());
    }
    let workload = objects.workload();
    if workload["kind"] == "StatefulSet" {
        let name = text(&workload["spec"], "serviceName");
        let services = objects.of("Service");
        let service = services
            .iter()
            .find(|service| text(&service["metadata"], "name") == name);
        if service.is_none_or(|service| service["spec"]["clusterIP"] != "None") {
            found.push(format!("serviceName: {name:?} is no headless Service"));
        }
    }
}

/// Where a path of the container lies: its mount, and the volume.
fn place<'o>(objects: &'o Objects, path: &str) -> Option<(&'o Value, &'o Value)> {
    let mount = list(objects.container(), "volumeMounts")
        .filter(|mount| Path::new(path).starts_with(text(mount, "mountPath")))
        .max_by_key(|mount| text(mount, "mountPath").len())?;
    let mut volumes = list(objects.pod(), "volumes");
    let volume = volumes.find(|volume| volume["name"] == mount["name"])?;
    Some((mount, volume))
}

/// Every mount has its volume and the other way round, and settings name places that are what they need.
fn volumes(objects: &Objects, found: &mut Vec<String>) {
    let names = |values: &Value, list_name: &str| -> BTreeSet<String> {
        list(values, list_name)
            .map(|value| text(value, "name").to_owned())
            .collect()
    };
    let mounted = names(objects.container(), "volumeMounts");
    for name in mounted.symmetric_difference(&names(objects.pod(), "volumes")) {
        found.push(format!("volumes: {name} is not both there and mounted"));
    }
    for (setting, what) in [
        ("SCANNER_SCAN__TMP_DIR", "memory"),
        ("SCANNER_SCAN__CRASH_JOURNAL", "bounded"),
        ("SCANNER_SCAN__STATE_DIR", "bounded"),
    ] {
        let place = place(objects, objects.setting(setting));
        let writable = place.is_some_and(|(mount, volume)| {
            mount["readOnly"] != true
                && volume["emptyDir"]["sizeLimit"].is_string()
                && (what != "memory" || volume["emptyDir"]["medium"] == "Memory")
        });
        if !writable {
            found.push(format!("{setting}: no {what} emptyDir is mounted there"));
        }
    }
    for (setting, path) in objects.the("ConfigMap")["data"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let path = path.as_str().unwrap_or_default();
        let is_input = setting == "SCANNER_SCAN__DATABASE" || setting.ends_with("_FILE");
        // Where `make image DB=DIR` puts signatures.
        if !is_input || path == "/usr/share/clamav" {
            continue;
        }
        if !place(objects, path).is_some_and(|(mount, _)| mount["readOnly"] == true) {
            found.push(format!("{setting}: nothing read-only is mounted there"));
        }
    }
}

/// What may be written has room within the limits: memory for /tmp, and disk for the rest.
fn room(objects: &Objects, found: &mut Vec<String>) {
    let resources = &objects.container()["resources"];
    let (mut memory, mut disk) = (0, 0);
    for volume in list(objects.pod(), "volumes") {
        let dir = &volume["emptyDir"];
        let size = bytes(&dir["sizeLimit"]).unwrap_or_default();
        if dir["medium"] == "Memory" {
            memory += size;
        } else {
            disk += size;
        }
    }
    let of = |which: &str, what: &str| bytes(&resources[which][what]).unwrap_or_default();
    if of("limits", "memory") < of("requests", "memory") + memory {
        found.push("limits: memory has no room for what is in /tmp".to_owned());
    }
    if of("limits", "ephemeral-storage") <= disk {
        found.push("limits: ephemeral-storage has no room for the volumes".to_owned());
    }
}

/// The broker's ports.
fn broker_ports(objects: &Objects) -> BTreeSet<u64> {
    let brokers = objects.setting("SCANNER_KAFKA__BROKERS").split(',');
    brokers
        .filter_map(|broker| broker.rsplit_once(':')?.1.parse().ok())
        .collect()
}

fn own_port(objects: &Objects) -> u64 {
    let listen = objects.setting("SCANNER_OPS__LISTEN");
    let port = listen.rsplit_once(':').map(|(_, port)| port.parse());
    port.and_then(Result::ok).unwrap_or_default()
}

/// Brokers and names may be asked, metrics may be read, and nothing else.
fn network(objects: &Objects, found: &mut Vec<String>) {
    let Some(policy) = objects.of("NetworkPolicy").first().copied() else {
        return found.push("NetworkPolicy: none".to_owned());
    };
    let spec = &policy["spec"];
    if spec["policyTypes"] != json!(["Ingress", "Egress"]) {
        found.push("NetworkPolicy: does not hold back both ways".to_owned());
    }
    let mut ports: BTreeMap<&str, BTreeSet<(String, u64)>> = BTreeMap::new();
    for (way, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in list(spec, way) {
            // A rule without a list is a rule for everybody, or for every port.
            if list(rule, peers).next().is_none() || list(rule, "ports").next().is_none() {
                found.push(format!("NetworkPolicy: {way} is open to everything"));
            }
            for peer in list(rule, peers) {
                let parts = peer.as_object().into_iter().flatten();
                let mut parts = parts.map(|(_, value)| value);
                if !parts.any(|part| list_or_map(&part["matchLabels"]) || part["cidr"].is_string())
                {
                    found.push(format!("NetworkPolicy: {way} is open to everything"));
                }
            }
            for port in list(rule, "ports") {
                let number = port["port"].as_u64().unwrap_or_default();
                let protocol = text(port, "protocol").to_owned();
                ports.entry(way).or_default().insert((protocol, number));
            }
        }
    }
    let tcp = |port: u64| ("TCP".to_owned(), port);
    let mut out: BTreeSet<_> = broker_ports(objects).into_iter().map(tcp).collect();
    out.extend([tcp(53), ("UDP".to_owned(), 53)]);
    if ports.get("egress") != Some(&out) {
        found.push(format!(
            "NetworkPolicy: lets out to {:?}, and {out:?} is needed",
            ports.get("egress")
        ));
    }
    let within = BTreeSet::from([tcp(own_port(objects))]);
    if ports.get("ingress") != Some(&within) {
        found.push(format!(
            "NetworkPolicy: lets in to {:?}, and {within:?} is needed",
            ports.get("ingress")
        ));
    }
}

fn list_or_map(value: &Value) -> bool {
    value.as_object().is_some_and(|map| !map.is_empty())
}

/// Metrics and readiness are asked where the service answers.
fn metrics(objects: &Objects, found: &mut Vec<String>) {
    let container = objects.container();
    let port = own_port(objects);
    let named = |name: &str| {
        list(container, "ports")
            .any(|one| one["name"] == *name && one["containerPort"].as_u64() == Some(port))
    };
    if container["readinessProbe"]["httpGet"]["port"].as_u64() != Some(port) {
        found.push(format!("readinessProbe: the service answers on {port}"));
    }
    for monitor in objects.of("PodMonitor") {
        for endpoint in list(&monitor["spec"], "podMetricsEndpoints") {
            if !named(text(endpoint, "port")) || text(endpoint, "path") != "/metrics" {
                found.push(format!("PodMonitor: metrics are at {port}/metrics"));
            }
        }
    }
    for service in objects.of("Service") {
        for one in list(&service["spec"], "ports") {
            if !named(text(one, "targetPort")) {
                found.push(format!("Service: the service answers on {port}"));
            }
        }
    }
}

/// A drain goes on, one replica at a time, also where there is only one.
fn budget(objects: &Objects, found: &mut Vec<String>) {
    let budgets = objects.of("PodDisruptionBudget");
    let is_good = budgets.len() == 1
        && budgets[0]["spec"]["maxUnavailable"] == 1
        && budgets[0]["spec"]["minAvailable"].is_null();
    if !is_good {
        found.push("PodDisruptionBudget: must let one replica go, and no more".to_owned());
    }
}

/// Static members are those whose names stay.
fn membership(objects: &Objects, found: &mut Vec<String>) {
    let kind = text(objects.workload(), "kind");
    let mut variables = list(objects.container(), "env");
    let member = variables.find(|variable| variable["name"] == MEMBER);
    let by_pod = json!({"fieldRef": {"fieldPath": "metadata.name"}});
    match (kind, member) {
        ("StatefulSet", Some(member)) if member["valueFrom"] == by_pod => {}
        ("Deployment", None) if objects.setting(MEMBER).is_empty() => {}
        ("StatefulSet", _) => found.push(format!("{MEMBER}: must be the pod's name")),
        _ => found.push(format!(
            "{MEMBER}: a Deployment's pods have other names each time"
        )),
    }
}

/// One autoscaler at most, which says the number alone, never more than there are partitions, and looks at what the service reads.
fn autoscaling(objects: &Objects, found: &mut Vec<String>) {
    let (by_lag, by_processor) = (
        objects.of("ScaledObject"),
        objects.of("HorizontalPodAutoscaler"),
    );
    let workload = objects.workload();
    let replicas = &workload["spec"]["replicas"];
    if by_lag.is_empty() && by_processor.is_empty() {
        if !replicas.is_u64() {
            found.push("replicas: nobody says how many".to_owned());
        }
        return;
    }
    if by_lag.len() + by_processor.len() > 1 {
        found.push("autoscalers: more than one, and each has another number".to_owned());
    }
    if !replicas.is_null() {
        found.push("replicas: would be set back each time this is applied".to_owned());
    }
    if workload["kind"] != "Deployment" {
        found.push("autoscalers: static members leave their partitions idle".to_owned());
    }
    for (object, most, least, behavior) in by_lag
        .iter()
        .map(|object| {
            let config = &object["spec"]["advanced"]["horizontalPodAutoscalerConfig"];
            (*object, "maxReplicaCount", "minReplicaCount", config)
        })
        .chain(
            by_processor
                .iter()
                .map(|object| (*object, "maxReplicas", "minReplicas", &object["spec"])),
        )
    {
        let (kind, spec) = (text(object, "kind"), &object["spec"]);
        let target = &spec["scaleTargetRef"];
        let kind_of_target = target["kind"].as_str().unwrap_or("Deployment");
        if target["name"] != workload["metadata"]["name"] || workload["kind"] != kind_of_target {
            found.push(format!("{kind}: scales what is not there"));
        }
        let partitions = text(&object["metadata"]["annotations"], PARTITIONS).parse::<u64>();
        let planned = objects.setting("SCANNER_KAFKA__MAX_PARTITIONS");
        match (partitions, spec[most].as_u64()) {
            (Ok(partitions), Some(most)) if most <= partitions => {
                // With one replica left it owns all of them.
                if planned
                    .parse::<u64>()
                    .is_ok_and(|planned| planned < partitions)
                {
                    found.push(format!("{kind}: one replica may not own all partitions"));
                }
            }
            _ => found.push(format!("{kind}: more replicas than {PARTITIONS} says")),
        }
        if spec[least].as_u64() != Some(1) {
            found.push(format!("{kind}: {least} is not 1"));
        }
        let down = &behavior["behavior"]["scaleDown"]["stabilizationWindowSeconds"];
        if down.as_u64() != Some(300) {
            found.push(format!("{kind}: goes down without waiting 300 s"));
        }
        for trigger in list(spec, "triggers") {
            kafka(objects, &trigger["metadata"], found);
        }
    }
}

/// What KEDA itself refuses, but only when it runs; and that it asks for the service's own group.
fn kafka(objects: &Objects, trigger: &Value, found: &mut Vec<String>) {
    let on = |name: &str| trigger[name] == "true";
    for (one, other) in [
        (
            "limitToPartitionsWithLag",
            "ensureEvenDistributionOfPartitions",
        ),
        ("limitToPartitionsWithLag", "allowIdleConsumers"),
    ] {
        if on(one) && on(other) {
            found.push(format!("KEDA: {one} and {other} exclude each other"));
        }
    }
    if !on("ensureEvenDistributionOfPartitions") {
        found.push("KEDA: a number that does not divide the partitions helps nobody".to_owned());
    }
    for (ours, theirs) in [
        ("SCANNER_KAFKA__BROKERS", "bootstrapServers"),
        ("SCANNER_KAFKA__GROUP", "consumerGroup"),
        ("SCANNER_KAFKA__INPUT_TOPIC", "topic"),
    ] {
        if objects.setting(ours) != text(trigger, theirs) {
            found.push(format!("KEDA: {theirs} is not what {ours} says"));
        }
    }
    let threshold = text(trigger, "lagThreshold").parse::<u64>();
    if !threshold.is_ok_and(|threshold| threshold > 0) {
        found.push("KEDA: lagThreshold is no number".to_owned());
    }
    // The same mechanism has another name there.
    let mechanism = match objects.setting("SCANNER_KAFKA__SASL__MECHANISM") {
        "plain" => "plaintext",
        "scram-sha-256" => "scram_sha256",
        "scram-sha-512" => "scram_sha512",
        other => other,
    };
    if text(trigger, "sasl") != mechanism {
        found.push("KEDA: sasl is not what SCANNER_KAFKA__SASL__MECHANISM says".to_owned());
    }
    let secured = objects.setting("SCANNER_KAFKA__TLS__ENABLED") == "true";
    if secured != (trigger["tls"] == "enable") {
        found.push("KEDA: tls is not what SCANNER_KAFKA__TLS__ENABLED says".to_owned());
    }
}
