(local ci (require :qire.ci))
