//! Taking the steps of a plan.

use std::collections::BTreeMap;

use http::HeaderValue;
use serde_json::json;

use super::super::Session;
use super::super::confirm::{self, Consent, Question};
use super::plan::Plan;
use crate::error::Error;
use crate::output;

/// Shows a plan, has it confirmed, and takes its steps until one is refused.
///
/// # Errors
/// Where it is another plan than the one that was asked for, has what cannot be done, was not confirmed, or a step was
/// refused.
pub(super) fn apply(session: &Session, plan: &Plan, only: Option<&str>, consent: &Consent) -> Result<(), Error> {
    if let Some(asked) = only
        && asked != plan.name()
    {
        return Err(Error::OtherPlan { asked: asked.to_owned(), now: plan.name() });
    }
    if !plan.impossible.is_empty() {
        return Err(Error::CannotApply { what: plan.impossible.clone() });
    }
    if plan.is_empty() {
        return session.say(&json!({ "plan": plan.name(), "done": [] }), || "nothing to change\n".to_owned());
    }
    if !session.json {
        output::say(&plan.to_text())?;
    }
    if !consent.is_given() {
        let lost: Vec<&str> = plan.steps.iter().filter_map(|step| step.consequence.as_deref()).collect();
        let mut consequence = plan.summary();
        for what in lost {
            consequence.push_str("; ");
            consequence.push_str(what);
        }
        confirm::ask(&consequence, Question::YesOrNo)?;
    }
    let mut done: Vec<String> = Vec::new();
    let mut revisions: BTreeMap<String, HeaderValue> = BTreeMap::new();
    for step in &plan.steps {
        match session.client.send(&step.call(&revisions)) {
            Ok(answer) => {
                if let Some(tag) = answer.tag {
                    revisions.insert(step.of.clone(), tag);
                }
                done.push(step.told());
            }
            Err(error) => {
                return Err(Error::ApplyStopped { step: step.what.clone(), done, source: Box::new(error.into()) });
            }
        }
    }
    let count = done.len();
    session.say(&json!({ "plan": plan.name(), "done": done }), || format!("applied, {count} changes\n"))
}
