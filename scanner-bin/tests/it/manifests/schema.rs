//! Are the objects what their kinds allow? A field that the kind does not know is an error, as it would do nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jsonschema::{Registry, Validator};
use serde_json::{Map, Value, json};

/// Schemas by API version and kind.
#[derive(Default)]
pub(crate) struct Schemas(BTreeMap<(String, String), Validator>);

/// Versions of Kubernetes whose schemas are there: the oldest that docs/operate.md promises, that of tests/k8s, and the newest.
pub(crate) const VERSIONS: [&str; 3] = ["1.27.0", "1.34.0", "1.37.0"];
/// The one of them under which faults are planted.
pub(crate) const USUAL: &str = "1.34.0";
/// Where the schemas of Kubernetes' own kinds refer to.
const DEFINITIONS: &str = "https://kubernetes.io/api/_definitions.json";
const METADATA: &str = "#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
/// The kinds that the manifests use, and the files of their schemas.
const KINDS: [(&str, &str, &str); 9] = [
    ("v1", "ConfigMap", "configmap-v1"),
    ("v1", "Service", "service-v1"),
    ("v1", "ServiceAccount", "serviceaccount-v1"),
    ("apps/v1", "Deployment", "deployment-apps-v1"),
    ("batch/v1", "CronJob", "cronjob-batch-v1"),
    ("apps/v1", "StatefulSet", "statefulset-apps-v1"),
    (
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        "horizontalpodautoscaler-autoscaling-v2",
    ),
    (
        "networking.k8s.io/v1",
        "NetworkPolicy",
        "networkpolicy-networking-v1",
    ),
    (
        "policy/v1",
        "PodDisruptionBudget",
        "poddisruptionbudget-policy-v1",
    ),
];

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Refuses what an object of this schema does not name, at every depth.
fn strict(schema: &mut Map<String, Value>) {
    let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
    if schema.contains_key("properties") && !schema.contains_key("additionalProperties") && !open {
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    for within in ["items", "additionalProperties"] {
        if let Some(Value::Object(schema)) = schema.get_mut(within) {
            strict(schema);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        for schema in properties.values_mut().filter_map(Value::as_object_mut) {
            strict(schema);
        }
    }
}

impl Schemas {
    /// `crds`: the definitions of custom kinds, where they can be had.
    pub(crate) fn new(basics: &Path, version: &str, crds: Option<&Path>) -> Schemas {
        let schemas = basics.join("schemas").join(version);
        let definitions = read(&schemas.join("_definitions.json"));
        let registry = Registry::new()
            .add(DEFINITIONS, definitions)
            .and_then(|registry| registry.prepare())
            .unwrap();
        let mut all = Schemas::default();
        let mut add = |version: &str, kind: &str, schema: &Value| {
            let validator = jsonschema::options()
                .with_registry(&registry)
                .build(schema)
                .unwrap_or_else(|error| panic!("{kind}: {error}"));
            all.0
                .insert((version.to_owned(), kind.to_owned()), validator);
        };
        for (version, kind, file) in KINDS {
            add(version, kind, &read(&schemas.join(format!("{file}.json"))));
        }
        let files = crds.map(|crds| fs::read_dir(crds).unwrap());
        for file in files.into_iter().flatten() {
            let text = fs::read_to_string(file.unwrap().path()).unwrap();
            let definition: Value = serde_saphyr::from_str(&text).unwrap();
            let spec = &definition["spec"];
            for version in spec["versions"].as_array().unwrap() {
                let name = format!(
                    "{}/{}",
                    spec["group"].as_str().unwrap(),
                    version["name"].as_str().unwrap()
                );
                let mut schema = version["schema"]["openAPIV3Schema"].clone();
                schema["properties"]["apiVersion"] = json!({"const": name});
                schema["properties"]["metadata"] =
                    json!({"$ref": format!("{DEFINITIONS}{METADATA}")});
                strict(schema.as_object_mut().unwrap());
                add(&name, spec["names"]["kind"].as_str().unwrap(), &schema);
            }
        }
        all
    }

    /// What is wrong with an object.
    pub(crate) fn complaints(&self, object: &Value) -> Vec<String> {
        let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
        let Some(validator) = self.0.get(&(text("apiVersion"), text("kind"))) else {
            return vec![format!(
                "{} {} has no schema",
                text("apiVersion"),
                text("kind")
            )];
        };
        let errors = validator.iter_errors(object);
        errors
            .map(|error| format!("{}{}: {error}", text("kind"), error.instance_path()))
            .collect()
    }
}

/// Kinds that Kubernetes itself does not have.
pub(crate) fn is_custom(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    ["keda.sh/", "monitoring.coreos.com/"]
        .iter()
        .any(|group| version.starts_with(group))
}
