//! What stands around networks of others.
#![allow(dead_code, reason = "each test uses its part of this")]

/// Around UltraFace: a picture, and the boxes of faces.
pub(crate) const FACES: &str = r#"
[inputs.input]
from = "picture"
mean = [127]
deviation = [128]

[[answers]]
as = "boxes"
boxes = "boxes"
scores = "scores"
background = 0
labels = ["background", "face"]
threshold = 0.7
overlap = 0.3
"#;

/// A recipe as it stands in a flow, around this model.
pub(crate) fn in_flow(recipe: &str, model: &str) -> String {
    let within = format!("model.{model}.recipe");
    recipe
        .replace("[inputs.", &format!("[{within}.inputs."))
        .replace("[[answers]]", &format!("[[{within}.answers]]"))
}
