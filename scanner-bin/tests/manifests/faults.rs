//! Faults are planted, one at a time, and each must be found by the check that is there for it.

use std::path::Path;

use serde_json::{Value, json};

use crate::render::{Objects, basics, overlay, tools, with};
use crate::schema::Schemas;
use crate::{restricted, rules};

/// Sets a place in an object, or takes it out where the value is null. The last part of the path may be new; `-` is one more in a list.
fn plant(object: &mut Value, path: &str, value: Value) {
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = object
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{path} is not there"));
    match parent {
        Value::Array(list) if name == "-" => list.push(value),
        Value::Array(list) => list[name.parse::<usize>().unwrap()] = value,
        Value::Object(map) if value.is_null() => {
            assert!(map.remove(name).is_some(), "{path} was not there");
        }
        Value::Object(map) => {
            map.insert(name.to_owned(), value);
        }
        _ => panic!("{path} has no parts"),
    }
}

fn assert_found(complaints: &[String], expected: &str, fault: &str) {
    let found = complaints.iter().any(|one| one.contains(expected));
    assert!(found, "{fault} is not found: {complaints:?}");
}

fn schema_faults(schemas: &Schemas, objects: &Objects, faults: &[(&str, &str, Value, &str)]) {
    for (kind, path, value, expected) in faults {
        let mut object = objects.the(kind).clone();
        assert_eq!(schemas.complaints(&object), [""; 0]);
        plant(&mut object, path, value.clone());
        assert_found(
            &schemas.complaints(&object),
            expected,
            &format!("{kind}{path}"),
        );
    }
}

#[test]
fn what_a_kind_does_not_know_is_found() {
    let Some(basics) = basics() else { return };
    let schemas = Schemas::new(&basics, None);
    let container = "/spec/template/spec/containers/0";
    let within = |path: &str| format!("{container}{path}");
    let typo = "Additional properties are not allowed";
    schema_faults(
        &schemas,
        &overlay(&basics, "three"),
        &[
            ("Deployment", "/specs", json!({}), typo),
            ("Deployment", "/spec/replica", json!(3), typo),
            ("Deployment", &within("/livenesProbe"), json!({}), typo),
            ("Deployment", &within("/resources/request"), json!({}), typo),
            (
                "Deployment",
                &within("/securityContext/readonlyRootFilesystem"),
                json!(true),
                typo,
            ),
            (
                "Deployment",
                "/spec/template/spec/topologySpreadConstraints/0/labelSelectors",
                json!({}),
                typo,
            ),
            (
                "Deployment",
                "/spec/replicas",
                json!("three"),
                "is not of type",
            ),
            (
                "Deployment",
                "/spec/selector",
                Value::Null,
                "\"selector\" is a required property",
            ),
            (
                "Deployment",
                &within("/name"),
                Value::Null,
                "\"name\" is a required property",
            ),
            (
                "Deployment",
                "/apiVersion",
                json!("apps/v2"),
                "has no schema",
            ),
            ("Deployment", "/metadata/label", json!({}), typo),
            (
                "PodDisruptionBudget",
                "/spec/maxUnavailables",
                json!(1),
                typo,
            ),
            ("NetworkPolicy", "/spec/egress/0/from", json!([]), typo),
            (
                "NetworkPolicy",
                "/spec/egress/0/ports/0/protocol",
                json!(6),
                "is not of type",
            ),
            ("ServiceAccount", "/automountToken", json!(false), typo),
            (
                "ConfigMap",
                "/data/SCANNER_SCAN__THREADS",
                json!(1),
                "is not of type",
            ),
        ],
    );
    schema_faults(
        &schemas,
        &overlay(&basics, "statefulset"),
        &[
            ("StatefulSet", "/spec/strategy", json!({}), typo),
            ("Service", "/spec/selectors", json!({}), typo),
        ],
    );
    schema_faults(
        &schemas,
        &overlay(&basics, "autoscaled-hpa"),
        &[(
            "HorizontalPodAutoscaler",
            "/spec/maxReplica",
            json!(3),
            typo,
        )],
    );
}

#[test]
fn what_a_custom_kind_does_not_know_is_found() {
    let Some(basics) = basics() else { return };
    let Some(crds) = tools("crds") else { return };
    let schemas = Schemas::new(&basics, Some(&crds));
    let typo = "Additional properties are not allowed";
    schema_faults(
        &schemas,
        &with(
            &basics,
            "autoscaled",
            &["tls", "sasl", "keda-secured", "pod-monitor"],
        ),
        &[
            ("ScaledObject", "/spec/maxReplicas", json!(3), typo),
            (
                "ScaledObject",
                "/spec/maxReplicaCount",
                json!("3"),
                "is not of type",
            ),
            (
                "ScaledObject",
                "/spec/triggers/0/metadata/lagThreshold",
                json!(5),
                "is not of type",
            ),
            (
                "ScaledObject",
                "/spec/triggers/0/type",
                Value::Null,
                "\"type\" is a required property",
            ),
            (
                "ScaledObject",
                "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown/stabilisationWindowSeconds",
                json!(300),
                typo,
            ),
            ("ScaledObject", "/metadata/annotation", json!({}), typo),
            (
                "ScaledObject",
                "/apiVersion",
                json!("keda.sh/v1"),
                "has no schema",
            ),
            (
                "TriggerAuthentication",
                "/spec/secretTargetRef/0/secret",
                json!("x"),
                typo,
            ),
            (
                "PodMonitor",
                "/spec/podMetricsEndpoints/0/intervall",
                json!("30s"),
                typo,
            ),
            (
                "PodMonitor",
                "/spec/podMetricsEndpoints/0/interval",
                json!("half a minute"),
                "does not match",
            ),
            (
                "PodMonitor",
                "/spec/selector",
                Value::Null,
                "\"selector\" is a required property",
            ),
        ],
    );
}

/// Each rule of the standard is broken once, in a container of each kind where it is about containers.
#[test]
fn what_the_restricted_standard_refuses_is_found() {
    let Some(basics) = basics() else { return };
    let whole = overlay(&basics, "three").workload()["spec"]["template"].clone();
    let refused = |path: &str, value: Value, expected: &str| {
        let mut template = whole.clone();
        plant(&mut template, path, value);
        assert_found(&restricted::complaints(&template), expected, path);
    };
    refused("/spec/hostNetwork", json!(true), "hostNetwork");
    refused("/spec/hostPID", json!(true), "hostPID");
    refused("/spec/hostIPC", json!(true), "hostIPC");
    for kind in ["hostPath", "nfs", "gitRepo", "iscsi", "flexVolume"] {
        refused("/spec/volumes/-", json!({"name": "x", kind: {}}), "volumes");
    }
    let sysctl = |name: &str| json!([{"name": name, "value": "1"}]);
    refused(
        "/spec/securityContext/sysctls",
        sysctl("kernel.msgmax"),
        "sysctls",
    );
    let annotation = "container.apparmor.security.beta.kubernetes.io/scanner";
    refused(
        "/metadata/annotations",
        json!({annotation: "unconfined"}),
        "AppArmor",
    );
    refused(
        "/spec/securityContext/seccompProfile/type",
        json!("Unconfined"),
        "seccomp: a profile",
    );
    refused(
        "/spec/securityContext/seccompProfile",
        Value::Null,
        "seccomp: no profile",
    );
    refused(
        "/spec/securityContext/runAsNonRoot",
        Value::Null,
        "runAsNonRoot",
    );
    refused("/spec/securityContext/runAsUser", json!(0), "runAsUser");
    refused(
        "/spec/securityContext/windowsOptions",
        json!({"hostProcess": true}),
        "hostProcess",
    );
    refused(
        "/spec/securityContext/appArmorProfile",
        json!({"type": "Unconfined"}),
        "AppArmor",
    );
    refused(
        "/spec/securityContext/seLinuxOptions",
        json!({"type": "spc_t"}),
        "SELinux: a type",
    );

    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let mut base = whole.clone();
        if list != "containers" {
            base["spec"][list] = json!([base["spec"]["containers"][0]]);
        }
        assert_eq!(restricted::complaints(&base), [""; 0], "{list}");
        for (path, value, expected) in [
            ("securityContext", Value::Null, "allowPrivilegeEscalation"),
            ("securityContext/privileged", json!(true), "privileged"),
            (
                "securityContext/allowPrivilegeEscalation",
                json!(true),
                "allowPrivilegeEscalation",
            ),
            (
                "securityContext/allowPrivilegeEscalation",
                Value::Null,
                "allowPrivilegeEscalation",
            ),
            (
                "securityContext/capabilities",
                Value::Null,
                "not all dropped",
            ),
            (
                "securityContext/capabilities/drop",
                json!(["NET_RAW"]),
                "not all dropped",
            ),
            (
                "securityContext/capabilities/add",
                json!(["SYS_PTRACE"]),
                "capabilities: added",
            ),
            ("securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
            ("securityContext/runAsUser", json!(0), "runAsUser"),
            (
                "securityContext/seccompProfile",
                json!({"type": "Unconfined"}),
                "seccomp",
            ),
            ("securityContext/procMount", json!("Unmasked"), "procMount"),
            (
                "securityContext/appArmorProfile",
                json!({"type": "Unconfined"}),
                "AppArmor",
            ),
            (
                "securityContext/seLinuxOptions",
                json!({"user": "root"}),
                "SELinux: a user",
            ),
            (
                "securityContext/seLinuxOptions",
                json!({"role": "x"}),
                "SELinux: a user",
            ),
            (
                "securityContext/windowsOptions",
                json!({"hostProcess": true}),
                "hostProcess",
            ),
            ("ports/0/hostPort", json!(9090), "hostPort"),
            (
                "readinessProbe/httpGet/host",
                json!("192.0.2.1"),
                "another host",
            ),
            (
                "lifecycle",
                json!({"preStop": {"tcpSocket": {"host": "192.0.2.1"}}}),
                "another host",
            ),
        ] {
            let mut template = base.clone();
            plant(&mut template, &format!("/spec/{list}/0/{path}"), value);
            assert_found(
                &restricted::complaints(&template),
                expected,
                &format!("{list} {path}"),
            );
        }
    }
}

#[test]
fn what_the_restricted_standard_allows_is_not_refused() {
    let Some(basics) = basics() else { return };
    let mut template = overlay(&basics, "three").workload()["spec"]["template"].clone();
    for (path, value) in [
        ("/spec/hostNetwork", json!(false)),
        (
            "/spec/securityContext/sysctls",
            json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]),
        ),
        (
            "/spec/containers/0/securityContext/capabilities/add",
            json!(["NET_BIND_SERVICE"]),
        ),
        (
            "/spec/containers/0/securityContext/seLinuxOptions",
            json!({"type": "container_t"}),
        ),
        (
            "/spec/containers/0/securityContext/procMount",
            json!("Default"),
        ),
        (
            "/spec/containers/0/securityContext/runAsNonRoot",
            json!(true),
        ),
        ("/spec/containers/0/ports/0/hostPort", json!(0)),
        ("/spec/volumes/-", json!({"name": "x", "projected": {}})),
    ] {
        plant(&mut template, path, value);
        assert_eq!(restricted::complaints(&template), [""; 0], "{path}");
    }
}

/// Plants one fault in one object of an overlay, and expects what the rules say.
fn rule(whole: &Objects, kind: &str, path: &str, value: Value, expected: &str) {
    let mut objects = whole.clone();
    plant(objects.the_mut(kind), path, value);
    assert_found(
        &rules::complaints(&objects),
        expected,
        &format!("{kind}{path}"),
    );
}

fn deployment_faults(basics: &Path) {
    let three = overlay(basics, "three");
    let data = |name: &str| format!("/data/{name}");
    let pod = |path: &str| format!("/spec/template/spec/{path}");
    let container = |path: &str| pod(&format!("containers/0/{path}"));
    let other = json!({"app.kubernetes.io/name": "another"});
    let label = "/spec/template/metadata/labels/app.kubernetes.io~1name";
    let mut labelled = three.clone();
    *labelled.the_mut("Deployment").pointer_mut(label).unwrap() = json!("another");
    for who in [
        "Deployment",
        "PodDisruptionBudget",
        "NetworkPolicy",
        "topologySpreadConstraints",
    ] {
        assert_found(
            &rules::complaints(&labelled),
            &format!("{who}: does not select"),
            label,
        );
    }
    for (kind, path, value, expected) in [
        (
            "Deployment",
            "/spec/selector/matchLabels",
            other.clone(),
            "Deployment: does not select",
        ),
        (
            "PodDisruptionBudget",
            "/spec/selector/matchLabels",
            other.clone(),
            "PodDisruptionBudget: does not",
        ),
        (
            "PodDisruptionBudget",
            "/spec/selector/matchLabels",
            json!({}),
            "PodDisruptionBudget: does not",
        ),
        (
            "NetworkPolicy",
            "/spec/podSelector/matchLabels",
            other.clone(),
            "NetworkPolicy: does not select",
        ),
        (
            "Deployment",
            &pod("topologySpreadConstraints/1/labelSelector/matchLabels"),
            other,
            "topologySpreadConstraints: does not",
        ),
        (
            "Deployment",
            &pod("topologySpreadConstraints"),
            json!([]),
            "topologySpreadConstraints: none",
        ),
        (
            "Deployment",
            &container("image"),
            json!("localhost/scanner-bin:latest"),
            "names no version",
        ),
        (
            "Deployment",
            &container("image"),
            json!("registry.example:5000/scanner-bin"),
            "names no version",
        ),
        (
            "Deployment",
            &container("envFrom/0/configMapRef/name"),
            json!("scanner-settings"),
            "there is no ConfigMap",
        ),
        (
            "Deployment",
            &pod("serviceAccountName"),
            json!("default"),
            "serviceAccountName: there is no",
        ),
        (
            "Deployment",
            &pod("automountServiceAccountToken"),
            json!(true),
            "automountServiceAccountToken",
        ),
        (
            "ServiceAccount",
            "/automountServiceAccountToken",
            Value::Null,
            "automountServiceAccountToken",
        ),
        (
            "Deployment",
            &pod("enableServiceLinks"),
            Value::Null,
            "enableServiceLinks",
        ),
        (
            "Deployment",
            "/spec/replicas",
            Value::Null,
            "nobody says how many",
        ),
        (
            "Deployment",
            "/metadata/namespace",
            json!("default"),
            "namespace: more than one",
        ),
        (
            "ConfigMap",
            "/metadata/labels",
            json!({}),
            "without the label",
        ),
        (
            "Deployment",
            &pod("volumes/-"),
            json!({"name": "more"}),
            "more is not both there and mounted",
        ),
        (
            "Deployment",
            &container("volumeMounts/2/name"),
            json!("sigs"),
            "sigs is not both there and mounted",
        ),
        (
            "Deployment",
            &container("volumeMounts/2/readOnly"),
            json!(false),
            "nothing read-only",
        ),
        (
            "ConfigMap",
            &data("SCANNER_SCAN__DATABASE"),
            json!("/elsewhere"),
            "nothing read-only",
        ),
        (
            "ConfigMap",
            &data("SCANNER_KAFKA__TLS__CA_FILE"),
            json!("/etc/scanner/tls/ca.crt"),
            "nothing read-only",
        ),
        (
            "ConfigMap",
            &data("SCANNER_SCAN__TMP_DIR"),
            json!("/var/lib/scanner/tmp"),
            "no memory emptyDir",
        ),
        (
            "ConfigMap",
            &data("SCANNER_SCAN__STATE_DIR"),
            json!("/var/lib/state"),
            "no bounded emptyDir",
        ),
        (
            "ConfigMap",
            &data("SCANNER_SCAN__CRASH_JOURNAL"),
            json!("/var/lib/clamav/crash"),
            "no bounded emptyDir",
        ),
        (
            "Deployment",
            &pod("volumes/1/emptyDir/sizeLimit"),
            Value::Null,
            "no bounded emptyDir",
        ),
        (
            "Deployment",
            &pod("volumes/0/emptyDir/sizeLimit"),
            json!("1Gi"),
            "memory has no room",
        ),
        (
            "Deployment",
            &pod("volumes/1/emptyDir/sizeLimit"),
            json!("3Gi"),
            "ephemeral-storage has no room",
        ),
        (
            "ConfigMap",
            &data("SCANNER_KAFKA__BROKERS"),
            json!("a:9092,b:9094"),
            "NetworkPolicy: lets out",
        ),
        (
            "ConfigMap",
            &data("SCANNER_OPS__LISTEN"),
            json!("0.0.0.0:8080"),
            "NetworkPolicy: lets in",
        ),
        (
            "ConfigMap",
            &data("SCANNER_OPS__LISTEN"),
            json!("0.0.0.0:8080"),
            "readinessProbe: the service",
        ),
        (
            "NetworkPolicy",
            "/spec/policyTypes",
            json!(["Ingress"]),
            "both ways",
        ),
        (
            "NetworkPolicy",
            "/spec/egress/0/to",
            Value::Null,
            "egress is open",
        ),
        (
            "NetworkPolicy",
            "/spec/egress/0/to/0",
            json!({"namespaceSelector": {}}),
            "egress is open",
        ),
        (
            "NetworkPolicy",
            "/spec/ingress/0/from",
            json!([]),
            "ingress is open",
        ),
        (
            "NetworkPolicy",
            "/spec/ingress/0/ports",
            Value::Null,
            "ingress is open",
        ),
        (
            "NetworkPolicy",
            "/spec/egress/1/ports/0/port",
            json!(54),
            "NetworkPolicy: lets out",
        ),
        (
            "NetworkPolicy",
            "/spec/egress/0/ports/-",
            json!({"protocol": "TCP", "port": 443}),
            "NetworkPolicy: lets out",
        ),
        (
            "PodDisruptionBudget",
            "/spec/maxUnavailable",
            json!(0),
            "one replica go",
        ),
        (
            "PodDisruptionBudget",
            "/spec/minAvailable",
            json!(1),
            "one replica go",
        ),
        (
            "Deployment",
            &container("env/-"),
            json!({"name": rules::MEMBER, "value": "a"}),
            "other names each time",
        ),
        (
            "ConfigMap",
            &data(rules::MEMBER),
            json!("a"),
            "other names each time",
        ),
    ] {
        rule(&three, kind, path, value, expected);
    }
    let mut with_secret = three.clone();
    with_secret
        .0
        .push(json!({"kind": "Secret", "metadata": {"name": "x"}, "data": {"password": "eA=="}}));
    assert_found(&rules::complaints(&with_secret), "Secret x", "a Secret");
    let mut without_policy = three.clone();
    without_policy
        .0
        .retain(|object| object["kind"] != "NetworkPolicy");
    assert_found(
        &rules::complaints(&without_policy),
        "NetworkPolicy: none",
        "no policy",
    );
    let mut twice = three;
    twice.0.push(twice.the("ServiceAccount").clone());
    assert_found(&rules::complaints(&twice), "ServiceAccount: twice", "twice");
}

#[test]
fn what_does_not_go_together_is_found() {
    let Some(basics) = basics() else { return };
    deployment_faults(&basics);

    let stateful = overlay(&basics, "statefulset");
    let env = "/spec/template/spec/containers/0/env";
    for (kind, path, value, expected) in [
        ("StatefulSet", env, json!([]), "must be the pod's name"),
        (
            "StatefulSet",
            env,
            json!([{"name": rules::MEMBER, "value": "a"}]),
            "must be the pod's name",
        ),
        (
            "StatefulSet",
            "/spec/serviceName",
            json!("another"),
            "no headless Service",
        ),
        (
            "Service",
            "/spec/clusterIP",
            Value::Null,
            "no headless Service",
        ),
        (
            "Service",
            "/spec/selector",
            json!({"a": "b"}),
            "Service: does not select",
        ),
        (
            "Service",
            "/spec/ports/0/targetPort",
            json!("http"),
            "Service: the service answers",
        ),
    ] {
        rule(&stateful, kind, path, value, expected);
    }

    let monitored = with(&basics, "single", &["pod-monitor"]);
    for (path, value, expected) in [
        (
            "/spec/selector/matchLabels",
            json!({"a": "b"}),
            "PodMonitor: does not select",
        ),
        (
            "/spec/podMetricsEndpoints/0/port",
            json!("http"),
            "PodMonitor: metrics are at",
        ),
        (
            "/spec/podMetricsEndpoints/0/path",
            json!("/"),
            "PodMonitor: metrics are at",
        ),
    ] {
        rule(&monitored, "PodMonitor", path, value, expected);
    }
}

#[test]
fn what_an_autoscaler_must_not_do_is_found() {
    let Some(basics) = basics() else { return };
    let by_lag = overlay(&basics, "autoscaled");
    let trigger = |name: &str| format!("/spec/triggers/0/metadata/{name}");
    let partitions = "/metadata/annotations/scanner-bin~1partitions";
    let down = "/spec/advanced/horizontalPodAutoscalerConfig/behavior/scaleDown/stabilizationWindowSeconds";
    for (path, value, expected) in [
        ("/spec/maxReplicaCount", json!(4), "more replicas than"),
        ("/spec/maxReplicaCount", Value::Null, "more replicas than"),
        ("/metadata/annotations", json!({}), "more replicas than"),
        (
            "/spec/minReplicaCount",
            json!(0),
            "minReplicaCount is not 1",
        ),
        (
            "/spec/scaleTargetRef/name",
            json!("scaner"),
            "scales what is not there",
        ),
        (
            "/spec/scaleTargetRef/kind",
            json!("StatefulSet"),
            "scales what is not there",
        ),
        (down, json!(0), "goes down without waiting"),
        (
            &trigger("limitToPartitionsWithLag"),
            json!("true"),
            "exclude each other",
        ),
        (
            &trigger("ensureEvenDistributionOfPartitions"),
            json!("false"),
            "helps nobody",
        ),
        (
            &trigger("bootstrapServers"),
            json!("kafka:9092"),
            "bootstrapServers is not what",
        ),
        (
            &trigger("consumerGroup"),
            json!("another"),
            "consumerGroup is not what",
        ),
        (&trigger("topic"), json!("another"), "topic is not what"),
        (
            &trigger("lagThreshold"),
            json!("many"),
            "lagThreshold is no number",
        ),
        (&trigger("tls"), json!("enable"), "tls is not what"),
    ] {
        rule(&by_lag, "ScaledObject", path, value, expected);
    }
    let pointer = partitions.replace("~1", "/");
    assert!(
        by_lag.the("ScaledObject").pointer(partitions).is_some(),
        "{pointer}"
    );
    let mut idle = by_lag.clone();
    let metadata = &mut idle.the_mut("ScaledObject")["spec"]["triggers"][0]["metadata"];
    metadata["limitToPartitionsWithLag"] = json!("true");
    metadata["allowIdleConsumers"] = json!("true");
    assert_found(
        &rules::complaints(&idle),
        "limitToPartitionsWithLag and allowIdleConsumers",
        "idle",
    );
    rule(
        &by_lag,
        "Deployment",
        "/spec/replicas",
        json!(1),
        "set back each time",
    );
    rule(
        &by_lag,
        "ConfigMap",
        "/data/SCANNER_KAFKA__MAX_PARTITIONS",
        json!("2"),
        "may not own all partitions",
    );

    let by_processor = overlay(&basics, "autoscaled-hpa");
    let mut both = by_lag.clone();
    both.0
        .push(by_processor.the("HorizontalPodAutoscaler").clone());
    assert_found(
        &rules::complaints(&both),
        "more than one",
        "both autoscalers",
    );
    for (path, value, expected) in [
        ("/spec/maxReplicas", json!(4), "more replicas than"),
        ("/spec/minReplicas", json!(2), "minReplicas is not 1"),
        (
            "/spec/scaleTargetRef/kind",
            json!("StatefulSet"),
            "scales what is not there",
        ),
        (
            "/spec/behavior/scaleDown",
            json!({}),
            "goes down without waiting",
        ),
    ] {
        rule(
            &by_processor,
            "HorizontalPodAutoscaler",
            path,
            value,
            expected,
        );
    }
    let mut stateful = overlay(&basics, "statefulset");
    stateful.0.push(by_lag.the("ScaledObject").clone());
    assert_found(
        &rules::complaints(&stateful),
        "leave their partitions idle",
        "a scaled StatefulSet",
    );
}
