(local ci (require :quire.ci))
(ci.job :test [:quire/puhs] (fn [] nil))
(ci.job :build [:tset] (fn [] nil))
(ci.job :deploy [:push] (fn [] nil))
(ci.job :report
  [:build
   :nothing-like-it]
  (fn [] nil))
