//! The module's start, and the plugin in one worker under one configuration.

use std::rc::Rc;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use crate::filter::Filter;
use crate::worker::{Worker, module_digest};
use crate::{config, feed, host};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Info);
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}}

/// The plugin in one worker, under one configuration. Where the proxy gets a new one, it makes a new root in the same VM and
/// drops the old one once its requests are through.
#[derive(Default)]
struct Root {
    worker: Option<Rc<Worker>>,
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            feed::on_gone(worker);
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_size: usize, _trailers: usize) {
        if let Some(worker) = &self.worker {
            feed::on_response(worker, token, body_size);
        }
    }
}

impl RootContext for Root {
    /// INVARIANT (no-worker-no-entry): where the configuration is bad, this returns false; the proxy then refuses it, and a
    /// worker without one denies.
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match config::parse(&bytes).and_then(Worker::start) {
            Ok(worker) => {
                if worker.config.feed().is_some() {
                    self.set_tick_period(feed::TICK);
                }
                let digest = module_digest();
                let module = digest.as_deref().unwrap_or("unknown");
                host::log(LogLevel::Info, &format!("configured; the digest of the module is {module}"));
                self.worker = Some(Rc::new(worker));
                true
            }
            Err(error) => {
                host::log(LogLevel::Critical, &format!("the configuration is refused: {error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(worker) = &self.worker {
            feed::on_tick(worker);
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Filter::new(self.worker.clone())))
    }
}
