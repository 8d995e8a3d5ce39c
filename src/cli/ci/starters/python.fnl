;; What quire runs after each push. `quire ci check` checks this file, `quire ci run`
;; runs it here, on the files as they are now.
(local ci (require :quire.ci))

;; The image that every command runs in.
(ci.image "python:3-slim")

;; The commands of a job stop at the first one that fails.
(ci.job :test [:quire/push]
  (fn [{: sh}]
    (sh ["pip" "install" "--root-user-action" "ignore" "--editable" "." "pytest"])
    (sh ["python" "-m" "pytest"])))

;; The same under several versions, each a job of its own, by one image that has them all:
;;
;; (each [_ version (ipairs [:3.13 :3.14])]
;;   (ci.job (.. :test- version) [:quire/push]
;;     (fn [{: sh}]
;;       (sh ["tox" "-e" version]))))
