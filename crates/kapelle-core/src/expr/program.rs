//! Expressions made ready: read and compiled once, evaluated often.
//!
//! **Invariant:** what is kept is a shortcut. An expression that is not kept is read anew each time,
//! and gives the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use minijinja::Expression;

use super::scan::{self, Field, Part, Ref, Scanned};
use super::value::{self, Budget};
use super::{ENVIRONMENT, ExprError, ExprErrorKind, SOURCE_MAX, Scope, Uses};
use super::{from_minijinja, is_template, plain, too_large};
use crate::Json;

/// So many expressions of a plan are kept, of about a kilobyte each.
const KEPT_MAX: usize = 256;

/// The expressions of a plan, by their source. Plain references are not among them: they need none.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<Box<str>, Program>);

impl Programs {
    /// What every string inside `template` refers to. Fails if one cannot be read.
    pub fn uses_of_template(&mut self, template: &Json) -> Result<Uses, ExprError> {
        let mut uses = Uses::default();
        self.template(template, &mut uses)?;
        Ok(uses)
    }

    /// What the template in one string refers to.
    pub fn uses_of_text(&mut self, template: &str) -> Result<Uses, ExprError> {
        let mut uses = Uses::default();
        self.text(template, &mut uses)?;
        Ok(uses)
    }

    /// What an expression refers to. Fails if it cannot be read.
    pub fn uses_of_expression(&mut self, source: &str) -> Result<Uses, ExprError> {
        let (inner, offset) = scan::bare(source);
        let mut uses = Uses::default();
        self.expression(inner, &mut uses).map_err(|error| error.moved(offset))?;
        Ok(uses)
    }

    fn template(&mut self, template: &Json, uses: &mut Uses) -> Result<(), ExprError> {
        match template {
            Json::String(text) => self.text(text, uses),
            Json::Array(items) => items.iter().try_for_each(|item| self.template(item, uses)),
            Json::Object(map) => map.values().try_for_each(|value| self.template(value, uses)),
            Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
        }
    }

    fn text(&mut self, template: &str, uses: &mut Uses) -> Result<(), ExprError> {
        if !is_template(template) {
            return Ok(());
        }
        for part in scan::parts(template)? {
            if let Part::Expression(source, offset) = part {
                self.expression(source, uses).map_err(|error| error.moved(offset))?;
            }
        }
        Ok(())
    }

    fn expression(&mut self, source: &str, uses: &mut Uses) -> Result<(), ExprError> {
        if let Some(known) = self.0.get(source) {
            known.add_to(uses);
            return Ok(());
        }
        let program = Program::read(source)?;
        program.add_to(uses);
        if self.0.len() < KEPT_MAX && !plain::is_plain(source) {
            self.0.insert(source.into(), program);
        }
        Ok(())
    }

    /// The value of an expression; `left` is how many bytes of it there may be.
    pub(super) fn evaluate(
        &self,
        source: &str,
        scope: &Scope,
        budget: &Arc<Budget>,
        left: &mut usize,
    ) -> Result<Json, ExprError> {
        match self.0.get(source) {
            Some(program) => program.evaluate(source, scope, budget, left),
            None => Program::read(source)?.evaluate(source, scope, budget, left),
        }
    }
}

/// An expression made ready.
#[derive(Debug)]
struct Program {
    refs: Box<[Ref]>,
    /// The other names that it uses, sorted.
    names: Box<[Box<str>]>,
    run_steps: bool,
    compiled: Expression<'static, 'static>,
}

impl Program {
    fn read(source: &str) -> Result<Self, ExprError> {
        let scanned = scan::scan(source)?;
        let compiled = compile(&scanned)?;
        let names = compiled.undeclared_variables(false).into_iter();
        let mut names: Vec<Box<str>> =
            names.filter(|name| !name.starts_with("__")).map(Into::into).collect();
        names.sort_unstable();
        let run_steps = names.iter().any(|name| **name == *"run")
            && compiled
                .undeclared_variables(true)
                .iter()
                .any(|path| path == "run" || path == "run.steps" || path.starts_with("run.steps."));
        Ok(Self { refs: scanned.refs.into(), names: names.into(), run_steps, compiled })
    }

    fn add_to(&self, uses: &mut Uses) {
        for reference in &self.refs {
            match reference {
                Ref::Input(name) => _ = uses.inputs.insert(name.clone()),
                Ref::Step { id, field } => {
                    uses.steps.insert(id.clone());
                    if *field == Field::Output {
                        uses.outputs.insert(id.clone());
                    }
                }
            }
        }
        uses.run_steps |= self.run_steps;
        for name in &self.names {
            match &**name {
                "inputs" => uses.inputs_whole = true,
                "run" => uses.run = true,
                "item" | "index" => uses.item = true,
                _ => _ = uses.names.insert(name.clone()),
            }
        }
    }

    fn evaluate(
        &self,
        source: &str,
        scope: &Scope,
        budget: &Arc<Budget>,
        left: &mut usize,
    ) -> Result<Json, ExprError> {
        let scanned = || scan::scan(source).expect("it was read before");
        let context = value::context(&self.refs, &self.names, scope, budget)
            .map_err(|error| error.in_source(&self.refs, source))?;
        if let Some(name) = self.names.iter().find(|name| !value::sees(scope, name)) {
            return Err(scan::unknown_name(&scanned(), name, scope));
        }
        let given = self.compiled.eval(context);
        if budget.is_spent() {
            return Err(too_large(source));
        }
        let given = given.map_err(|error| {
            let scanned = scanned();
            let error = from_minijinja(&error, &scanned, source);
            scan::missing_input(&scanned, &error.at, scope).unwrap_or(error)
        })?;
        value::to_json(&given, budget, left).map_err(|error| error.in_source(&self.refs, source))
    }
}

fn compile(scanned: &Scanned<'_>) -> Result<Expression<'static, 'static>, ExprError> {
    if scanned.original.len() > SOURCE_MAX {
        let message = format!("an expression has at most {SOURCE_MAX} bytes");
        return Err(ExprError::new(ExprErrorKind::Syntax, message, 0..scanned.original.len()));
    }
    ENVIRONMENT
        .compile_expression_owned(scanned.source.clone())
        .map_err(|error| from_minijinja(&error, scanned, scanned.original))
}
