//! Reading events: their type first, then straight into their fields.
//!
//! **Invariant:** what is read is what serde's own `tag = "type"` reads: unknown fields are passed
//! over, and the type may be anywhere. Only where it comes first, as we write it, is reading fast.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, MapDeserializer};
use serde::de::{
    DeserializeSeed, EnumAccess, Error, IgnoredAny, MapAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};

use super::event::{EffectId, Event, Outcome, Untagged};
use crate::port::agent::{Safety, Usage};
use crate::{Attempt, Digest, Json, StepNo};

/// The field that says what an event is.
const TYPE: &str = "type";

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor)
    }
}

/// The first field of an event.
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum First {
    Type,
    Other(String),
}

struct EventVisitor;

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        match map.next_key()? {
            None => Err(A::Error::missing_field(TYPE)),
            Some(First::Type) => Untagged::deserialize(Tagged(map)),
            Some(First::Other(other)) => type_is_later(other, map),
        }
    }
}

/// An event that was not written by us, or not by this version.
fn type_is_later<'de, A: MapAccess<'de>>(first: String, mut map: A) -> Result<Event, A::Error> {
    let mut fields = serde_json::Map::new();
    fields.insert(first, map.next_value()?);
    while let Some((key, value)) = map.next_entry::<String, Json>()? {
        fields.insert(key, value);
    }
    let Some(kind) = fields.remove(TYPE) else { return Err(A::Error::missing_field(TYPE)) };
    let sorted = std::iter::once((TYPE.to_owned(), kind)).chain(fields);
    let sorted = MapDeserializer::<_, serde_json::Error>::new(sorted);
    EventVisitor.visit_map(sorted).map_err(A::Error::custom)
}

/// The fields of `EffectRecorded`, in order.
type EffectRecorded = (StepNo, Attempt, EffectId, Outcome, Option<Usage>);

/// The fields of `EffectRecorded`, the most frequent event of all: where a struct is flattened into
/// another serde puts everything aside as a tree first.
pub(super) fn effect_recorded<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<EffectRecorded, D::Error> {
    #[derive(Deserialize)]
    struct Flat {
        step: StepNo,
        attempt: Attempt,
        ordinal: u32,
        name: Box<str>,
        input: Digest,
        #[serde(default)]
        generation: u32,
        safety: Safety,
        outcome: Outcome,
        #[serde(default)]
        used: Option<Usage>,
    }
    let Flat { step, attempt, ordinal, name, input, generation, safety, outcome, used } =
        Flat::deserialize(from)?;
    let effect = EffectId { ordinal, name, input, generation, safety };
    Ok((step, attempt, effect, outcome, used))
}

/// An event whose type is what comes next, for the twin that wants its type outside.
struct Tagged<A>(A);

impl<'de, A: MapAccess<'de>> Deserializer<'de> for Tagged<A> {
    type Error = A::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_enum(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for Tagged<A> {
    type Error = A::Error;
    type Variant = Fields<A>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        mut self,
        seed: S,
    ) -> Result<(S::Value, Fields<A>), A::Error> {
        Ok((self.0.next_value_seed(seed)?, Fields(self.0)))
    }
}

/// What an event holds besides its type.
struct Fields<A>(A);

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn unit_variant(mut self) -> Result<(), A::Error> {
        while self.0.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        seed.deserialize(MapAccessDeserializer::new(self.0))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        visitor.visit_map(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Event, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_type_may_be_anywhere_and_unknown_fields_are_passed_over() {
        let paused = Event::RunPaused { by: "eva".into(), reason: "lunch".into() };
        let first = r#"{"type":"run_paused","by":"eva","new":{"a":[1]},"reason":"lunch"}"#;
        let later = r#"{"new":{"a":[1]},"by":"eva","type":"run_paused","reason":"lunch"}"#;
        assert_eq!(read(first), Ok(paused.clone()));
        assert_eq!(read(later), Ok(paused));
        assert_eq!(read(r#"{"type":"run_started","new":{"a":1}}"#), Ok(Event::RunStarted));
        assert_eq!(read(r#"{"new":1,"type":"run_adopted"}"#), Ok(Event::RunAdopted));
    }

    #[test]
    fn what_is_not_an_event_is_told_as_it_is() {
        let wrong = |text: &str| read(text).expect_err("it is not an event");
        assert!(wrong("{}").starts_with("missing field `type`"), "{}", wrong("{}"));
        assert!(wrong(r#"{"by":"eva"}"#).starts_with("missing field `type`"));
        assert!(wrong(r#"{"type":"run_paused"}"#).starts_with("missing field `by`"));
        assert!(wrong(r#"{"type":"run_walked"}"#).starts_with("unknown variant `run_walked`"));
        assert!(wrong(r#"["run_started"]"#).contains("expected an event"));
        assert!(wrong(r#"{"type":1}"#).contains("expected variant identifier"));
    }
}
