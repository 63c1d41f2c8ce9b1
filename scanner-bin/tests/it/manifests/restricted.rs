//! The pod security standard "restricted", rule by rule, as Kubernetes 1.34 writes it down. It holds "baseline" in it.

use serde_json::Value;

/// What of a pod's template the standard refuses.
pub(crate) fn complaints(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let pod = &template["spec"];
    let containers: Vec<&Value> = ["containers", "initContainers", "ephemeralContainers"]
        .iter()
        .filter_map(|list| pod[*list].as_array())
        .flatten()
        .collect();
    // The pod's own security context, and each container's.
    let contexts: Vec<&Value> = std::iter::once(&pod["securityContext"])
        .chain(containers.iter().map(|one| &one["securityContext"]))
        .collect();
    let mut refuse = |rule: &str, broken: bool| {
        if broken {
            found.push(rule.to_owned());
        }
    };

    for space in ["hostNetwork", "hostPID", "hostIPC"] {
        refuse(
            &format!("{space}: the node's namespace"),
            !unset_or(&pod[space], &[false.into()]),
        );
    }
    refuse("volumes: a type that is not allowed", {
        const ALLOWED: [&str; 9] = [
            "configMap",
            "csi",
            "downwardAPI",
            "emptyDir",
            "ephemeral",
            "image",
            "persistentVolumeClaim",
            "projected",
            "secret",
        ];
        let volumes = pod["volumes"].as_array().into_iter().flatten();
        let keys = volumes.filter_map(Value::as_object).flat_map(|v| v.keys());
        keys.filter(|key| *key != "name")
            .any(|key| !ALLOWED.contains(&key.as_str()))
    });
    refuse("sysctls: one that is not safe", {
        const SAFE: [&str; 10] = [
            "kernel.shm_rmid_forced",
            "net.ipv4.ip_local_port_range",
            "net.ipv4.ip_unprivileged_port_start",
            "net.ipv4.tcp_syncookies",
            "net.ipv4.ping_group_range",
            "net.ipv4.ip_local_reserved_ports",
            "net.ipv4.tcp_keepalive_time",
            "net.ipv4.tcp_fin_timeout",
            "net.ipv4.tcp_keepalive_intvl",
            "net.ipv4.tcp_keepalive_probes",
        ];
        let sysctls = pod["securityContext"]["sysctls"].as_array();
        let mut names = sysctls.into_iter().flatten().map(|one| &one["name"]);
        names.any(|name| !name.as_str().is_some_and(|name| SAFE.contains(&name)))
    });
    refuse("AppArmor: by annotation", {
        let annotations = template["metadata"]["annotations"].as_object();
        let mut profiles = annotations.into_iter().flatten().filter(|(name, _)| {
            name.starts_with("container.apparmor.security.beta.kubernetes.io/")
        });
        profiles.any(|(_, profile)| {
            let profile = profile.as_str().unwrap_or_default();
            profile != "runtime/default" && !profile.starts_with("localhost/")
        })
    });

    for context in &contexts {
        refuse(
            "hostProcess: a process of the node (Windows)",
            !unset_or(&context["windowsOptions"]["hostProcess"], &[false.into()]),
        );
        refuse(
            "AppArmor: a profile that is not allowed",
            !unset_or(
                &context["appArmorProfile"]["type"],
                &["RuntimeDefault".into(), "Localhost".into()],
            ),
        );
        let selinux = &context["seLinuxOptions"];
        let types = [
            "",
            "container_t",
            "container_init_t",
            "container_kvm_t",
            "container_engine_t",
        ];
        refuse(
            "SELinux: a type that is not allowed",
            !unset_or(&selinux["type"], &types.map(Value::from)),
        );
        refuse(
            "SELinux: a user or a role",
            ["user", "role"]
                .iter()
                .any(|name| !unset_or(&selinux[*name], &["".into()])),
        );
        refuse("seccomp: a profile that is not allowed", {
            let profile = &context["seccompProfile"]["type"];
            !profile.is_null() && !is_confined(profile)
        });
        refuse("runAsUser: root", context["runAsUser"] == 0);
    }

    let for_pod = &pod["securityContext"];
    for container in &containers {
        let context = &container["securityContext"];
        let name = container["name"].as_str().unwrap_or_default();
        let mut refuse = |rule: &str, broken: bool| refuse(&format!("{name}: {rule}"), broken);
        refuse(
            "privileged",
            !unset_or(&context["privileged"], &[false.into()]),
        );
        refuse(
            "allowPrivilegeEscalation: not forbidden",
            context["allowPrivilegeEscalation"] != false,
        );
        let capabilities = |list: &str| context["capabilities"][list].as_array();
        refuse(
            "capabilities: not all dropped",
            !capabilities("drop").is_some_and(|drop| drop.iter().any(|one| one == "ALL")),
        );
        refuse(
            "capabilities: added",
            capabilities("add").is_some_and(|add| add.iter().any(|one| one != "NET_BIND_SERVICE")),
        );
        refuse(
            "procMount: not the usual one",
            !unset_or(&context["procMount"], &["Default".into()]),
        );
        refuse("hostPort: a port of the node", {
            let ports = container["ports"].as_array().into_iter().flatten();
            let mut ports = ports.map(|port| &port["hostPort"]);
            ports.any(|port| !unset_or(port, &[0.into()]))
        });
        // The container's word counts, and the pod's where it says nothing.
        let non_root = match &context["runAsNonRoot"] {
            Value::Null => &for_pod["runAsNonRoot"],
            own => own,
        };
        refuse("runAsNonRoot: not asked for", non_root != true);
        let seccomp = match &context["seccompProfile"]["type"] {
            Value::Null => &for_pod["seccompProfile"]["type"],
            own => own,
        };
        refuse("seccomp: no profile", !is_confined(seccomp));
        refuse(
            "a probe or a hook of another host",
            asks_elsewhere(container),
        );
    }
    found
}

fn unset_or(value: &Value, allowed: &[Value]) -> bool {
    value.is_null() || allowed.contains(value)
}

fn is_confined(seccomp: &Value) -> bool {
    seccomp == "RuntimeDefault" || seccomp == "Localhost"
}

/// Probes and hooks that name a host, which lets the kubelet be used to reach it.
fn asks_elsewhere(container: &Value) -> bool {
    let hooks = &container["lifecycle"];
    let asking = [
        &container["startupProbe"],
        &container["livenessProbe"],
        &container["readinessProbe"],
        &hooks["postStart"],
        &hooks["preStop"],
    ];
    asking.iter().any(|one| {
        ["httpGet", "tcpSocket"]
            .iter()
            .any(|how| !unset_or(&one[*how]["host"], &["".into()]))
    })
}
