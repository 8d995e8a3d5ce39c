(local ci (require :quire.ci))
(ci.job :a [:b] (fn [] nil))
(ci.job :b [:c] (fn [] nil))
(ci.job :c [:a] (fn [] nil))
