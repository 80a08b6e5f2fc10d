//! The inputs that a run is given, against what its plan says of them.

use super::Plan;
use crate::problem::{Code, Problem};
use crate::violation::{meant, tell};
use crate::{Json, suggest};

/// `given` with the defaults of the plan's inputs filled in, in the plan's order.
///
/// An input without a `default` must be given; one that the plan does not have is refused.
pub fn inputs(plan: &Plan, given: Json) -> Result<Json, Vec<Problem>> {
    let mut given = match given {
        Json::Object(given) => given,
        Json::Null => serde_json::Map::new(),
        other => {
            let message = format!("inputs are an object, not {}", crate::expr::kind_of(&other));
            return Err(vec![Problem::error(Code::WrongType, "inputs", message)]);
        }
    };
    let mut problems = Vec::new();
    let mut complete = serde_json::Map::new();
    for (name, schema) in &plan.inputs {
        let value = given.shift_remove(&**name).or_else(|| schema.get("default").cloned());
        match value {
            None => {
                let message = format!("the input `{name}` is missing");
                problems.push(Problem::error(
                    Code::MissingInput,
                    format!("inputs.{name}"),
                    message,
                ));
            }
            Some(value) => {
                problems.extend(wrong(name, schema, &value));
                complete.insert(name.to_string(), value);
            }
        }
    }
    for name in given.keys() {
        let message = format!("there is no input `{name}`");
        let hint = suggest::one_of(name, plan.inputs.keys().map(|name| &**name));
        let problem = Problem::error(Code::UnknownInput, format!("inputs.{name}"), message);
        problems.push(problem.hint(hint));
    }
    if problems.is_empty() { Ok(Json::Object(complete)) } else { Err(problems) }
}

fn wrong(name: &str, schema: &Json, value: &Json) -> Vec<Problem> {
    let Ok(validator) = jsonschema::validator_for(schema) else {
        let message = format!("the schema of input `{name}` is no JSON Schema");
        return vec![Problem::error(Code::BadSchema, format!("inputs.{name}"), message)];
    };
    let problem = |error: &jsonschema::ValidationError<'_>| {
        let path = super::finding::dotted(error.instance_path().as_str());
        let message = format!("the input `{name}` is wrong: {}", tell(error, Some(schema)));
        Problem::error(Code::WrongInput, format!("inputs.{name}{path}"), message)
    };
    let errors: Vec<_> = validator.iter_errors(value).take(20).collect();
    errors.iter().flat_map(meant).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn inputs_are_completed_and_checked() {
        let plan = Plan {
            inputs: [
                ("depth".into(), json!({"enum": ["quick", "thorough"], "default": "quick"})),
                ("files".into(), json!({"type": "array", "items": {"type": "string"}})),
            ]
            .into(),
            ..Plan::default()
        };
        let given = inputs(&plan, json!({"files": ["a"]}));
        assert_eq!(given, Ok(json!({"depth": "quick", "files": ["a"]})));
        let problems = inputs(&plan, json!({"depht": "quick", "depth": "deep"})).unwrap_err();
        let told: Vec<_> = problems.iter().map(|p| (p.code.as_str(), &*p.field)).collect();
        let expected = [
            ("wrong_input", "inputs.depth"),
            ("missing_input", "inputs.files"),
            ("unknown_input", "inputs.depht"),
        ];
        assert_eq!(told, expected);
        assert_eq!(&*problems[2].hint, "did you mean `depth`?");
        let problems = inputs(&plan, json!({"files": ["a", 1]})).unwrap_err();
        assert_eq!(&*problems[0].field, "inputs.files[1]");
        assert!(inputs(&plan, json!([])).is_err());
    }
}
