//! The list of models.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// The reply to `GET /v1/models`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModelList {
    #[serde(skip_deserializing)]
    pub(crate) object: &'static str,
    #[serde(deserialize_with = "lenient")]
    pub(crate) data: Option<Vec<Model>>,
}

/// A model that is served.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Model {
    #[serde(deserialize_with = "lenient")]
    pub(crate) id: Option<String>,
    #[serde(skip_deserializing)]
    pub(crate) object: &'static str,
    /// When the model came to be, in seconds since 1970.
    #[serde(skip_deserializing)]
    pub(crate) created: u64,
    /// Who serves it: an engine gives itself away by it.
    #[serde(deserialize_with = "lenient")]
    pub(crate) owned_by: Option<String>,
    /// Tokens of a prompt and a completion together (vLLM, SGLang).
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub(crate) max_model_len: Option<u64>,
    /// What llama.cpp says of it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    pub(crate) meta: Option<ModelMeta>,
}

/// What llama.cpp says of its model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ModelMeta {
    /// Tokens of a prompt and a completion together.
    #[serde(deserialize_with = "lenient")]
    pub(crate) n_ctx: Option<u64>,
}

/// A field that is nothing where it is of another type: engines differ in what they say of a model.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_engine_says_otherwise_is_passed_over() {
        let list = json!({"object": 7, "data": [
            {"id": "a", "created": "now", "owned_by": null, "max_model_len": 4096},
            {"id": "b", "meta": {"n_ctx": 512, "more": []}, "max_model_len": "x"},
            {"id": 9, "meta": null},
        ]});
        let models = serde_json::from_value::<ModelList>(list).unwrap().data.unwrap();
        let ids: Vec<_> = models.iter().map(|m| m.id.as_deref()).collect();
        assert_eq!(ids, [Some("a"), Some("b"), None]);
        assert_eq!(
            (models[0].max_model_len, models[1].max_model_len),
            (Some(4096), None)
        );
        assert_eq!(models[1].meta.as_ref().and_then(|m| m.n_ctx), Some(512));
        for list in [json!({"data": 7}), json!({"data": [7]}), json!({})] {
            assert!(serde_json::from_value::<ModelList>(list).unwrap().data.is_none());
        }
    }
}
