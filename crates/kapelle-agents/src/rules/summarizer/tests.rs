//! What is central is chosen, once, and in order.

use serde_json::{Value, json};

use super::*;

const LIGHTHOUSE: &str = "The lighthouse on Skerry Point was built in 1871 after three ships were lost on the \
    reef in one winter. Its builder was a young engineer called Moira Fenn. She had never built a tower \
    before.\n\n\
    The lighthouse has a granite tower of thirty metres and a lamp that can be seen from forty \
    kilometres away. For a hundred years the lamp of the lighthouse burned oil, which keepers carried up the stairs \
    of the tower every evening. In 1974 the lamp was made electric and the keepers left the lighthouse.\n\n\
    The weather on the point is rough. Gulls nest there in spring.\n\n\
    The tower of the lighthouse, which is made of granite and thirty metres high, has a lamp that can be seen \
    from forty kilometres away. Today the lighthouse is a museum, and visitors may climb the tower to the lamp \
    on weekends from April to October. A ticket costs six pounds. Children pay half of that and dogs must stay outside.";

fn sentences(input: Value) -> Vec<String> {
    let made = summarize(&input).unwrap().value;
    let found = made["sentences"].as_array().unwrap().iter();
    found.map(|one| one["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_central_sentences_are_chosen_in_their_order() {
    let found = sentences(json!({"text": LIGHTHOUSE, "sentences": 3}));
    assert_eq!(found.len(), 3);
    let says = ["Skerry Point was built", "lighthouse", "forty kilometres"];
    assert!(found.iter().zip(says).all(|(one, says)| one.contains(says)), "{found:#?}");
    let places: Vec<_> = found.iter().map(|one| LIGHTHOUSE.find(one).unwrap()).collect();
    assert!(places.is_sorted());
}

#[test]
fn what_says_the_same_is_chosen_once() {
    let found = sentences(json!({"text": LIGHTHOUSE, "ratio": 1}));
    assert_eq!(found.iter().filter(|one| one.contains("forty")).count(), 1, "{found:#?}");
    let twice = json!([
        {"source": "a", "text": LIGHTHOUSE}, {"source": "b", "text": LIGHTHOUSE.to_uppercase()}
    ]);
    let again = sentences(json!({"documents": twice, "ratio": 1}));
    assert_eq!(again.len(), found.len(), "{again:#?}");
}

#[test]
fn the_question_decides_what_matters() {
    let ask =
        |question| sentences(json!({"text": LIGHTHOUSE, "sentences": 1, "question": question}));
    assert!(
        ask("When can visitors climb to the lamp?")[0]
            .starts_with("Today the lighthouse is a museum")
    );
    assert!(ask("How much does a ticket cost?")[0].contains("six pounds"));
    assert!(ask("Who was the engineer?")[0].contains("Moira Fenn"));
}

#[test]
fn a_ratio_is_a_share_of_all_sentences() {
    let made = summarize(&json!({"text": LIGHTHOUSE, "ratio": 0.25})).unwrap().value;
    let of = usize::try_from(made["of"].as_u64().unwrap()).unwrap();
    assert_eq!(made["sentences"].as_array().unwrap().len(), of.div_ceil(4));
    assert_eq!(sentences(json!({"text": ""})), [] as [String; 0]);
    assert!(summarize(&json!({"text": "a", "documents": []})).is_err());
}
